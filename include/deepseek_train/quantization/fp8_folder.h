// Checkpoints with DeepSeek's FP8 blocks, to and from bf16: on the CPU, tensor by tensor, so a 671B
// model needs the memory of its largest tensor and not a GPU.
#pragma once

#include <functional>
#include <string>

#include "deepseek_train/core/env.h"
#include "deepseek_train/formats/safetensors_folder.h"
#include "deepseek_train/quantization/fp8_block.h"

namespace deepseek_train::quantization {

// DeepSeek-V3's choice: the projections of attention, MLP and experts. Embedding, head, norms,
// router and the MTP layer's eh_proj stay as they are.
bool is_deepseek_fp8_weight(const formats::TensorInfo& tensor);

struct Fp8FolderOptions {
  int num_threads = 1;
  uint64_t max_shard_bytes = formats::kDefaultMaxShardBytes;
};

// Hugging Face folder `from` (config.json with quantization_config fp8, 128 x 128) -> `to`: every
// F8_E4M3 tensor NAME times NAME_scale_inv (F32 or F8_E8M0, in whatever shard) becomes bf16, other
// tensors are copied to the byte, config.json loses its quantization_config; the folder's other
// text files (tokenizer, templates, code) come along. Bits equal DeepSeek's fp8_cast_bf16.py.
// Memory: one tensor and its source pages, which are released after it. `to` appears complete or
// not at all. Throws NotFound or DataCorruption naming file, tensor and bytes: a weight without
// scales, scales without a weight or of another shape, a NaN among them; InvalidArgument if `to`
// exists or the folder is not of that kind.
void convert_fp8_to_bf16(Env& env, const std::string& from, const std::string& to,
                         const Fp8FolderOptions& options = {});

// The way back: bf16 or float32 tensors for which `is_quantized` holds become F8_E4M3 with float32
// NAME_scale_inv (kUe8m0: powers of two, as in V3.1). Throws InvalidArgument naming the tensor if
// one holds a NaN or an infinity, has another type or is not a matrix.
void convert_bf16_to_fp8(
    Env& env, const std::string& from, const std::string& to,
    Fp8ScaleFormat scale_format = Fp8ScaleFormat::kFloat32, const Fp8FolderOptions& options = {},
    const std::function<bool(const formats::TensorInfo&)>& is_quantized = is_deepseek_fp8_weight);

}  // namespace deepseek_train::quantization
