#include <algorithm>
#include <cmath>

#include "deepseek_train/core/error.h"
#include "deepseek_train/quantization/fp8_folder.h"
#include "quantization/encodings/fp8_block/folder_conversion.h"
#include "quantization/encodings/fp8_block/folder_files.h"

namespace deepseek_train::quantization {
namespace {

using formats::describe;
using formats::TensorInfo;
using formats::TensorView;

bool is_scale(const TensorInfo& tensor) { return tensor.name.ends_with(kScaleSuffix); }

class Fp8ToBf16 {
 public:
  Fp8ToBf16(const formats::SafetensorsFolder& folder, int num_threads)
      : folder_(folder), num_threads_(num_threads) {
    for (const TensorView* tensor : folder.tensors()) add(*tensor);
  }

  const std::vector<TensorInfo>& tensors() const { return tensors_; }

  // The values of a tensor of the new folder.
  std::span<const std::byte> values_of(const TensorInfo& wanted) {
    if (last_ != nullptr) last_->file->release(last_->bytes);
    const TensorView& stored = folder_.get(wanted.name);
    last_ = &stored;
    stored.file->populate(stored.bytes);
    return stored.dtype == DType::kFloat8E4M3 ? std::as_bytes(decode(stored)) : stored.bytes;
  }

 private:
  void add(const TensorView& tensor) {
    if (is_scale(tensor)) return check_has_weight(tensor);
    TensorInfo info = tensor;
    if (tensor.dtype == DType::kFloat8E4M3) {
      check_matrix(tensor);
      info.dtype = DType::kBFloat16;
    }
    tensors_.push_back(std::move(info));
  }

  void check_has_weight(const TensorView& scale) const {
    const auto name = scale.name.substr(0, scale.name.size() - kScaleSuffix.size());
    const TensorView* weight = folder_.find(name);
    DST_CHECK_AS(DataCorruption, weight && weight->dtype == DType::kFloat8E4M3, describe(scale),
                 " has scales for ", name, ", which is ",
                 weight ? concat("stored as ", name_of(weight->dtype)) : "not there");
  }

  void check_matrix(const TensorView& weight) const {
    DST_CHECK_AS(DataCorruption, weight.shape.size() == 2, describe(weight), " is FP8 of shape ",
                 weight.shape, ", wanted a matrix");
    const TensorView* scale = folder_.find(weight.name + std::string(kScaleSuffix));
    DST_CHECK_AS(DataCorruption, scale, describe(weight), " is FP8, but ", folder_.path(),
                 " has no ", weight.name, kScaleSuffix,
                 ": without its scales the weight means nothing");
    const auto blocks = block_shape_of(weight);
    const std::vector<int64_t> wanted = {blocks.block_rows(), blocks.block_columns()};
    DST_CHECK_AS(DataCorruption, scale->shape == wanted, describe(*scale), " has shape ",
                 scale->shape, ", wanted ", wanted, " for ", weight.name, " of shape ",
                 weight.shape);
    DST_CHECK_AS(DataCorruption,
                 scale->dtype == DType::kFloat32 || scale->dtype == DType::kFloat8E8M0,
                 describe(*scale), " is stored as ", name_of(scale->dtype),
                 ", wanted float32 or float8_e8m0");
  }

  std::vector<float> scales_of(const TensorView& weight) const {
    const TensorView& stored = folder_.get(weight.name + std::string(kScaleSuffix));
    std::vector<float> scales(static_cast<size_t>(block_shape_of(weight).num_scales()));
    if (stored.dtype == DType::kFloat32) {
      if (!scales.empty()) std::memcpy(scales.data(), stored.bytes.data(), stored.bytes.size());
    } else {
      std::transform(stored.bytes.begin(), stored.bytes.end(), scales.begin(), [](std::byte bits) {
        return to_float(Float8E8M0{static_cast<uint8_t>(bits)});
      });
    }
    for (const float scale : scales)
      DST_CHECK_AS(DataCorruption, std::isfinite(scale) && scale >= 0, describe(stored),
                   " holds the scale ", scale, ", wanted finite numbers that are not negative");
    return scales;
  }

  std::span<const BFloat16> decode(const TensorView& weight) {
    const auto scales = scales_of(weight);
    const std::span values(reinterpret_cast<const Float8E4M3*>(weight.bytes.data()),
                           weight.bytes.size());
    const auto blocks = block_shape_of(weight);
    const auto decoded = buffer_.take<BFloat16>(blocks.num_values());
    for_each_band(blocks, num_threads_, [&](const Band& band) {
      const auto band_values = band.values_of(values);
      DST_CHECK_AS(DataCorruption, std::none_of(band_values.begin(), band_values.end(), is_nan),
                   describe(weight),
                   " holds a NaN: the weights are damaged; download or copy the "
                   "file again");
      decode_fp8_blocks(band.shape, band_values, band.scales_of(std::span(scales)),
                        band.values_of(decoded));
    });
    return decoded;
  }

  const formats::SafetensorsFolder& folder_;
  int num_threads_;
  std::vector<TensorInfo> tensors_;
  const TensorView* last_ = nullptr;
  Buffer buffer_;
};

}  // namespace

void convert_fp8_to_bf16(Env& env, const std::string& from, const std::string& to,
                         const Fp8FolderOptions& options) {
  const auto config_path = join_path(from, "config.json");
  const auto config = config_without_fp8(read_text(env, config_path), config_path);
  const formats::SafetensorsFolder folder(env, from);
  Fp8ToBf16 conversion(folder, options.num_threads);
  const auto plan = formats::plan_shards(conversion.tensors(), options.max_shard_bytes);
  make_folder(env, to, [&](const std::string& temporary) {
    const auto source = [&](const TensorInfo& tensor) { return conversion.values_of(tensor); };
    formats::write_sharded(env, temporary, plan, source, folder.shards().front()->metadata());
    copy_other_files(env, from, temporary);
    write_text(env, join_path(temporary, "config.json"), config);
  });
}

}  // namespace deepseek_train::quantization
