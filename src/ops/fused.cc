#include "deepseek_train/ops/fused.h"

#include <ATen/Parallel.h>

#include "src/ops/cpu/fused_kernels.h"

namespace deepseek_train::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Values that one thread takes at a time: more than the cost of handing them out.
constexpr int64_t kValuesAtOnce = 16384;
// Rows whose gradients of the weight are added up together, whatever the number of threads.
constexpr int64_t kRowsAtOnce = 64;

bool is_fusible(const torch::Tensor& x) {
  return x.is_cpu() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16);
}

template <typename T>
const T* values(const torch::Tensor& x) {
  return static_cast<const T*>(x.const_data_ptr());
}
template <typename T>
T* mutable_values(const torch::Tensor& x) {
  return static_cast<T*>(x.mutable_data_ptr());
}

// Calls run(T{}) with our element type of the tensor.
template <typename Run>
void with_type(const torch::Tensor& x, const Run& run) {
  if (x.scalar_type() == at::kFloat) {
    run(float{});
  } else {
    run(BFloat16{});
  }
}

class RmsNormFunction final : public torch::autograd::Function<RmsNormFunction> {
 public:
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& input,
                               const torch::Tensor& weight, double eps) {
    const auto x = input.contiguous(), w = weight.to(at::kFloat).contiguous();
    const auto D = x.size(-1), rows = D == 0 ? 0 : x.numel() / D;
    auto y = torch::empty_like(x);
    auto inverse = torch::empty({rows}, at::kFloat);
    with_type(x, [&]<typename T>(T) {
      at::parallel_for(0, rows, kRowsAtOnce, [&](int64_t begin, int64_t end) {
        fused_kernels<T>().rms_norm(values<T>(x) + begin * D, values<float>(w), end - begin, D,
                                    static_cast<float>(eps), mutable_values<T>(y) + begin * D,
                                    mutable_values<float>(inverse) + begin);
      });
    });
    context->save_for_backward({x, weight, inverse});
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const auto &x = saved[0], &weight = saved[1], &inverse = saved[2];
    const auto g = gradients[0].contiguous(), w = weight.to(at::kFloat).contiguous();
    const auto D = x.size(-1), rows = inverse.numel();
    const auto slices = (rows + kRowsAtOnce - 1) / kRowsAtOnce;
    auto dx = torch::empty_like(x);
    // One row of sums a slice, added up in their order.
    torch::Tensor dw;
    if (context->needs_input_grad(1)) dw = torch::zeros({slices, D}, at::kFloat);
    with_type(x, [&]<typename T>(T) {
      at::parallel_for(0, slices, 1, [&](int64_t begin, int64_t end) {
        for (int64_t slice = begin; slice < end; ++slice) {
          const auto first = slice * kRowsAtOnce;
          fused_kernels<T>().rms_norm_backward(
              values<T>(g) + first * D, values<T>(x) + first * D, values<float>(w),
              values<float>(inverse) + first, std::min(kRowsAtOnce, rows - first), D,
              mutable_values<T>(dx) + first * D,
              dw.defined() ? mutable_values<float>(dw) + slice * D : nullptr);
        }
      });
    });
    if (dw.defined()) dw = dw.sum(0).to(weight.scalar_type());
    return {dx, dw, {}};
  }
};

class SwigluFunction final : public torch::autograd::Function<SwigluFunction> {
 public:
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& gate_input,
                               const torch::Tensor& up_input) {
    const auto gate = gate_input.contiguous(), up = up_input.contiguous();
    auto y = torch::empty_like(gate);
    with_type(gate, [&]<typename T>(T) {
      at::parallel_for(0, gate.numel(), kValuesAtOnce, [&](int64_t begin, int64_t end) {
        fused_kernels<T>().swiglu(values<T>(gate) + begin, values<T>(up) + begin, end - begin,
                                  mutable_values<T>(y) + begin);
      });
    });
    context->save_for_backward({gate, up});
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const auto &gate = saved[0], &up = saved[1];
    const auto g = gradients[0].contiguous();
    auto dgate = torch::empty_like(gate), dup = torch::empty_like(up);
    with_type(gate, [&]<typename T>(T) {
      at::parallel_for(0, gate.numel(), kValuesAtOnce, [&](int64_t begin, int64_t end) {
        fused_kernels<T>().swiglu_backward(
            values<T>(g) + begin, values<T>(gate) + begin, values<T>(up) + begin, end - begin,
            mutable_values<T>(dgate) + begin, mutable_values<T>(dup) + begin);
      });
    });
    return {dgate, dup};
  }
};

// x [B, H, T, E] -> the same strides.
torch::Tensor turned(const torch::Tensor& input, const torch::Tensor& cos, const torch::Tensor& sin,
                     float direction) {
  const auto x = input.stride(-1) == 1 ? input : input.contiguous();
  const auto H = x.size(1), T = x.size(2), E = x.size(3);
  auto y = torch::empty_like(x);
  with_type(x, [&]<typename V>(V) {
    at::parallel_for(
        0, x.size(0) * T, std::max<int64_t>(1, kValuesAtOnce / (H * E)),
        [&](int64_t begin, int64_t end) {
          for (int64_t row = begin; row < end; ++row) {
            const auto b = row / T, t = row % T;
            for (int64_t h = 0; h < H; ++h)
              fused_kernels<V>().rotate_halves(
                  values<V>(x) + b * x.stride(0) + h * x.stride(1) + t * x.stride(2),
                  values<V>(cos) + t * E, values<V>(sin) + t * E, E / 2, direction,
                  mutable_values<V>(y) + b * y.stride(0) + h * y.stride(1) + t * y.stride(2));
          }
        });
  });
  return y;
}

class RotateHalvesFunction final : public torch::autograd::Function<RotateHalvesFunction> {
 public:
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& x,
                               const torch::Tensor& cos, const torch::Tensor& sin) {
    context->save_for_backward({cos, sin});
    return turned(x, cos, sin, 1);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    return {turned(gradients[0], saved[0], saved[1], -1), {}, {}};
  }
};

}  // namespace

torch::Tensor rms_norm(const torch::Tensor& x, const torch::Tensor& weight, double eps) {
  if (is_fusible(x)) return RmsNormFunction::apply(x, weight, eps);
  return at::rms_norm(x, weight.sizes(), weight.to(x.scalar_type()), eps);
}

torch::Tensor swiglu(const torch::Tensor& gate, const torch::Tensor& up) {
  if (is_fusible(gate) && up.scalar_type() == gate.scalar_type())
    return SwigluFunction::apply(gate, up);
  return torch::silu(gate) * up;
}

torch::Tensor rotate_halves(const torch::Tensor& x, const torch::Tensor& cos,
                            const torch::Tensor& sin) {
  if (is_fusible(x) && cos.scalar_type() == x.scalar_type())
    return RotateHalvesFunction::apply(x, cos.contiguous(), sin.contiguous());
  auto halves = x.chunk(2, -1);
  return x * cos + torch::cat({-halves[1], halves[0]}, -1) * sin;
}

}  // namespace deepseek_train::ops
