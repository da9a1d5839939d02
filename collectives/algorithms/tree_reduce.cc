// Works on blocks of kBlock elements that stay in the first-level cache. Each pair of neighbouring
// sources is summed into a block on a stack; as in a binary counter, two finished sub-trees of
// equal height merge at once, so log2(n) + 1 blocks are enough for n sources. The stack's bottom
// block is then rounded and written to every destination.
#include "collectives/algorithms/tree_reduce.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "collectives/algorithms/elements.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

constexpr size_t kBlock = 512;
constexpr size_t kMaxHeight = 18;  // of a tree over 65,536 ranks, and one more

struct Add {
  template <typename T>
  [[gnu::always_inline]] static T combine(T a, T b) {
    if constexpr (std::is_integral_v<T>) {
      using Unsigned = std::make_unsigned_t<T>;  // wraps where signed addition is undefined
      return static_cast<T>(static_cast<Unsigned>(a) + static_cast<Unsigned>(b));
    } else {
      return a + b;
    }
  }
};
struct Multiply {
  template <typename T>
  [[gnu::always_inline]] static T combine(T a, T b) {
    if constexpr (std::is_integral_v<T>) {
      using Unsigned = std::make_unsigned_t<T>;
      return static_cast<T>(uint64_t{static_cast<Unsigned>(a)} * static_cast<Unsigned>(b));
    } else {
      return a * b;
    }
  }
};
struct And {
  template <typename T>
  [[gnu::always_inline]] static T combine(T a, T b) {
    return static_cast<T>(a & b);
  }
};
struct Or {
  template <typename T>
  [[gnu::always_inline]] static T combine(T a, T b) {
    return static_cast<T>(a | b);
  }
};
// `a != a` keeps a NaN on the left; one on the right wins because every comparison with it is
// false.
struct Min {
  template <typename T>
  [[gnu::always_inline]] static T combine(T a, T b) {
    return (a < b) | (a != a) ? a : b;
  }
};
struct Max {
  template <typename T>
  [[gnu::always_inline]] static T combine(T a, T b) {
    return (a > b) | (a != a) ? a : b;
  }
};

struct TreeArguments {
  std::span<const std::byte* const> sources;
  std::span<std::byte* const> destinations;
  size_t count;
  int divisor;  // 1: none
};

template <typename Element>
using Stored = typename Element::Stored;
template <typename Element>
using Accumulator = typename Element::Accumulator;

template <typename Element, typename Op>
[[gnu::always_inline]] inline void combine_sources(Accumulator<Element>* __restrict sum,
                                                   const Stored<Element>* a,
                                                   const Stored<Element>* b, size_t count) {
#pragma GCC ivdep
  for (size_t i = 0; i < count; ++i) sum[i] = Op::combine(Element::load(a[i]), Element::load(b[i]));
}

// The sum may be one of the sources; then it is the same element that is read and written.
template <typename Element, typename Op>
[[gnu::always_inline]] inline void combine_in_place(Stored<Element>* sum, const Stored<Element>* a,
                                                    const Stored<Element>* b, size_t count) {
#pragma GCC ivdep
  for (size_t i = 0; i < count; ++i)
    sum[i] = Element::store(Op::combine(Element::load(a[i]), Element::load(b[i])));
}

template <typename Element>
[[gnu::always_inline]] inline void load_source(Accumulator<Element>* __restrict sum,
                                               const Stored<Element>* source, size_t count) {
#pragma GCC ivdep
  for (size_t i = 0; i < count; ++i) sum[i] = Element::load(source[i]);
}

template <typename T, typename Op>
[[gnu::always_inline]] inline void combine_blocks(T* __restrict left, const T* __restrict right,
                                                  size_t count) {
  for (size_t i = 0; i < count; ++i) left[i] = Op::combine(left[i], right[i]);
}

template <typename Element>
[[gnu::always_inline]] inline void store_block(Stored<Element>* __restrict destination,
                                               const Accumulator<Element>* __restrict sum,
                                               size_t count) {
  for (size_t i = 0; i < count; ++i) destination[i] = Element::store(sum[i]);
}

template <typename T>
[[gnu::always_inline]] inline void divide_block(T* sum, size_t count, T divisor) {
  for (size_t i = 0; i < count; ++i) sum[i] /= divisor;
}

template <typename Element, typename Op>
[[gnu::always_inline]] inline void reduce_block(const TreeArguments& arguments, size_t offset,
                                                size_t count) {
  using T = Accumulator<Element>;
  alignas(64) T stack[kMaxHeight][kBlock];
  const auto source = [&](size_t k) {
    return reinterpret_cast<const Stored<Element>*>(arguments.sources[k]) + offset;
  };
  const size_t num_sources = arguments.sources.size();
  if constexpr (std::is_same_v<T, Stored<Element>>) {
    // The commonest tree needs no block of its own.
    if (num_sources == 2 && arguments.destinations.size() == 1 && arguments.divisor == 1) {
      auto* sum = reinterpret_cast<T*>(arguments.destinations[0]) + offset;
      return combine_in_place<Element, Op>(sum, source(0), source(1), count);
    }
  }
  size_t height = 0;
  for (size_t pair = 0; pair < num_sources / 2; ++pair) {
    combine_sources<Element, Op>(stack[height++], source(2 * pair), source(2 * pair + 1), count);
    for (size_t carry = pair; carry & 1; carry >>= 1, --height)
      combine_blocks<T, Op>(stack[height - 2], stack[height - 1], count);
  }
  if (num_sources % 2) load_source<Element>(stack[height++], source(num_sources - 1), count);
  for (; height > 1; --height) combine_blocks<T, Op>(stack[height - 2], stack[height - 1], count);
  if (arguments.divisor != 1) divide_block(stack[0], count, static_cast<T>(arguments.divisor));
  for (std::byte* destination : arguments.destinations)
    store_block<Element>(reinterpret_cast<Stored<Element>*>(destination) + offset, stack[0], count);
}

template <typename Element, typename Op>
[[gnu::always_inline]] inline void reduce_all(const TreeArguments& arguments) {
  for (size_t offset = 0; offset < arguments.count; offset += kBlock)
    reduce_block<Element, Op>(arguments, offset, std::min(kBlock, arguments.count - offset));
}

// The same loops, compiled for three instruction sets.
template <typename Element, typename Op>
void reduce_portable(const TreeArguments& arguments) {
  reduce_all<Element, Op>(arguments);
}
#if defined(__x86_64__)
template <typename Element, typename Op>
[[gnu::target("avx2")]] void reduce_avx2(const TreeArguments& arguments) {
  reduce_all<Element, Op>(arguments);
}
template <typename Element, typename Op>
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")]] void reduce_avx512(
    const TreeArguments& arguments) {
  reduce_all<Element, Op>(arguments);
}
#endif

template <typename Element, typename Op>
void reduce_fastest(const TreeArguments& arguments) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    return reduce_avx512<Element, Op>(arguments);
  if (__builtin_cpu_supports("avx2")) return reduce_avx2<Element, Op>(arguments);
#endif
  reduce_portable<Element, Op>(arguments);
}

template <typename Element>
void reduce_elements(ReduceOp op, const TreeArguments& arguments) {
  switch (op) {
    case ReduceOp::kSum:
    case ReduceOp::kAvg: return reduce_fastest<Element, Add>(arguments);
    case ReduceOp::kMin: return reduce_fastest<Element, Min>(arguments);
    case ReduceOp::kMax: return reduce_fastest<Element, Max>(arguments);
    case ReduceOp::kProd: return reduce_fastest<Element, Multiply>(arguments);
    case ReduceOp::kAnd:
    case ReduceOp::kOr: break;
  }
  if constexpr (std::is_integral_v<Accumulator<Element>>) {
    if (op == ReduceOp::kAnd) return reduce_fastest<Element, And>(arguments);
    if (op == ReduceOp::kOr) return reduce_fastest<Element, Or>(arguments);
  }
  throw InvalidArgument(concat("cannot take ", name_of(op), " of floating point"));
}

void reduce_dtype(DType dtype, ReduceOp op, const TreeArguments& arguments) {
  switch (dtype) {
    case DType::kFloat32: return reduce_elements<PlainElement<float>>(op, arguments);
    case DType::kFloat64: return reduce_elements<PlainElement<double>>(op, arguments);
    case DType::kBFloat16: return reduce_elements<BFloat16Element>(op, arguments);
    case DType::kFloat16: return reduce_elements<Float16Element>(op, arguments);
    case DType::kInt32: return reduce_elements<PlainElement<int32_t>>(op, arguments);
    case DType::kInt64: return reduce_elements<PlainElement<int64_t>>(op, arguments);
    case DType::kInt8: return reduce_elements<NarrowElement<int8_t>>(op, arguments);
    case DType::kUInt8:
    case DType::kBool: return reduce_elements<NarrowElement<uint8_t>>(op, arguments);
    default: throw InvalidArgument(concat("cannot reduce ", name_of(dtype)));
  }
}

}  // namespace

void tree_reduce(DType dtype, ReduceOp op, std::span<const std::byte* const> sources,
                 std::span<std::byte* const> destinations, size_t count) {
  DST_ASSERT(!sources.empty() && sources.size() <= 65536, "tree of ", sources.size(), " sources");
  const int divisor = op == ReduceOp::kAvg ? static_cast<int>(sources.size()) : 1;
  reduce_dtype(dtype, op, {sources, destinations, count, divisor});
}

void accumulate(DType dtype, ReduceOp op, const std::byte* incoming, std::byte* target,
                size_t count) {
  const std::byte* sources[] = {incoming, target};
  std::byte* destinations[] = {target};
  reduce_dtype(dtype, op, {sources, destinations, count, 1});
}

void divide(DType dtype, std::byte* data, size_t count, int divisor) {
  const std::byte* sources[] = {data};
  std::byte* destinations[] = {data};
  reduce_dtype(dtype, ReduceOp::kSum, {sources, destinations, count, divisor});
}

}  // namespace deepseek_train::collectives
