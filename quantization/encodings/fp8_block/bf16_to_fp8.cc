#include <map>

#include "deepseek_train/core/error.h"
#include "deepseek_train/quantization/fp8_folder.h"
#include "quantization/encodings/fp8_block/folder_conversion.h"
#include "quantization/encodings/fp8_block/folder_files.h"

namespace deepseek_train::quantization {
namespace {

using formats::describe;
using formats::TensorInfo;
using formats::TensorView;

class Bf16ToFp8 {
 public:
  Bf16ToFp8(const formats::SafetensorsFolder& folder, Fp8ScaleFormat format, int num_threads,
            const std::function<bool(const TensorInfo&)>& is_quantized)
      : folder_(folder), format_(format), num_threads_(num_threads) {
    for (const TensorView* tensor : folder.tensors()) add(*tensor, is_quantized(*tensor));
  }

  const std::vector<TensorInfo>& tensors() const { return tensors_; }

  // The values of a tensor of the new folder. A file lists the float32 scales before the values, so
  // each weight is read twice: for its scales, which wait here, and for its values.
  std::span<const std::byte> values_of(const TensorInfo& wanted) {
    if (last_ != nullptr) last_->file->release(last_->bytes);
    const auto weight = weight_of_scale_.find(wanted.name);
    const bool is_scale = weight != weight_of_scale_.end();
    last_ = &folder_.get(is_scale ? weight->second : wanted.name);
    last_->file->populate(last_->bytes);
    if (is_scale) return std::as_bytes(std::span<const float>(scales_of(*last_)));
    return wanted.dtype == DType::kFloat8E4M3 ? encode(*last_) : last_->bytes;
  }

 private:
  void add(const TensorView& tensor, bool is_quantized) {
    DST_CHECK(tensor.dtype != DType::kFloat8E4M3, describe(tensor), " is FP8 already");
    tensors_.push_back(tensor);
    if (!is_quantized) return;
    DST_CHECK(tensor.shape.size() == 2, describe(tensor), " has shape ", tensor.shape,
              ": only a matrix becomes FP8 blocks");
    DST_CHECK(tensor.dtype == DType::kBFloat16 || tensor.dtype == DType::kFloat32, describe(tensor),
              " is stored as ", name_of(tensor.dtype), ", wanted bf16 or float32");
    tensors_.back().dtype = DType::kFloat8E4M3;
    const auto blocks = block_shape_of(tensor);
    const auto scale_name = tensor.name + std::string(kScaleSuffix);
    tensors_.push_back(
        {scale_name, DType::kFloat32, {blocks.block_rows(), blocks.block_columns()}});
    weight_of_scale_.emplace(scale_name, tensor.name);
  }

  // Calls work(band, its weights as bf16 or float) for all bands.
  template <typename Work>
  void for_each_weight_band(const TensorView& weight, Work work) const {
    const auto run = [&]<typename Weight>(const Band& band, Weight) {
      const auto bytes =
          weight.bytes.subspan(static_cast<size_t>(band.first_value) * sizeof(Weight),
                               static_cast<size_t>(band.shape.num_values()) * sizeof(Weight));
      std::vector<Weight> scratch;
      work(band, elements_of<Weight>(bytes, scratch));
    };
    for_each_band(block_shape_of(weight), num_threads_, [&](const Band& band) {
      weight.dtype == DType::kFloat32 ? run(band, float()) : run(band, BFloat16());
    });
  }

  std::span<const float> scales_of(const TensorView& weight) {
    std::vector<float>& scales = scales_[weight.name];
    if (!scales.empty()) return scales;
    scales.resize(static_cast<size_t>(block_shape_of(weight).num_scales()));
    for_each_weight_band(weight, [&](const Band& band, auto values) {
      try {
        compute_fp8_block_scales(band.shape, values, format_, band.scales_of(std::span(scales)));
      } catch (const InvalidArgument& error) {
        throw InvalidArgument(
            concat(describe(weight), ", of the rows from ", band.first_row, ": ", error.what()));
      }
    });
    return scales;
  }

  std::span<const std::byte> encode(const TensorView& weight) {
    const auto scales = scales_of(weight);
    const auto encoded = buffer_.take<Float8E4M3>(block_shape_of(weight).num_values());
    for_each_weight_band(weight, [&](const Band& band, auto values) {
      encode_fp8_blocks(band.shape, values, band.scales_of(scales), band.values_of(encoded));
    });
    return std::as_bytes(encoded);
  }

  const formats::SafetensorsFolder& folder_;
  Fp8ScaleFormat format_;
  int num_threads_;
  std::vector<TensorInfo> tensors_;
  std::map<std::string, std::string> weight_of_scale_;
  std::map<std::string, std::vector<float>> scales_;  // 1/8192 of the bf16 weights' size
  const TensorView* last_ = nullptr;
  Buffer buffer_;
};

}  // namespace

bool is_deepseek_fp8_weight(const formats::TensorInfo& tensor) {
  const std::string_view name = tensor.name;
  return name.ends_with(".kv_a_proj_with_mqa.weight") ||
         (name.ends_with("_proj.weight") && !name.ends_with(".eh_proj.weight"));
}

void convert_bf16_to_fp8(Env& env, const std::string& from, const std::string& to,
                         Fp8ScaleFormat scale_format, const Fp8FolderOptions& options,
                         const std::function<bool(const TensorInfo&)>& is_quantized) {
  const auto config_path = join_path(from, "config.json");
  const auto config = config_with_fp8(read_text(env, config_path), scale_format, config_path);
  const formats::SafetensorsFolder folder(env, from);
  Bf16ToFp8 conversion(folder, scale_format, options.num_threads, is_quantized);
  const auto plan = formats::plan_shards(conversion.tensors(), options.max_shard_bytes);
  make_folder(env, to, [&](const std::string& temporary) {
    const auto source = [&](const TensorInfo& tensor) { return conversion.values_of(tensor); };
    formats::write_sharded(env, temporary, plan, source, folder.shards().front()->metadata());
    copy_other_files(env, from, temporary);
    write_text(env, join_path(temporary, "config.json"), config);
  });
}

}  // namespace deepseek_train::quantization
