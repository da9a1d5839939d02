#include "collectives/algorithms/compressed_codec.h"

#include "collectives/algorithms/block_int8.h"
#include "collectives/algorithms/elements.h"

namespace deepseek_train::collectives {
namespace {

static_assert(BlockInt8::kSize == CompressedAllReduce::kBlock);

size_t num_blocks(size_t count) { return (count + BlockInt8::kSize - 1) / BlockInt8::kSize; }

void compress_bfloat16(const float* values, size_t count, uint16_t* wire, float* residual) {
  for (size_t i = 0; i < count; ++i) wire[i] = BFloat16Element::store(values[i]);
  if (!residual) return;
  for (size_t i = 0; i < count; ++i) {
    const float lost = values[i] - BFloat16Element::load(wire[i]);
    residual[i] = lost - lost == 0 ? lost : 0.0f;
  }
}

void decompress_bfloat16(const uint16_t* wire, float* values, size_t count) {
  for (size_t i = 0; i < count; ++i) values[i] = BFloat16Element::load(wire[i]);
}

}  // namespace

size_t wire_bytes(WireFormat format, size_t count) {
  if (format == WireFormat::kBFloat16) return count * sizeof(uint16_t);
  return num_blocks(count) * sizeof(BlockInt8);
}

void compress(WireFormat format, const float* values, size_t count, std::byte* wire,
              float* residual) {
  if (format == WireFormat::kBFloat16)
    compress_bfloat16(values, count, reinterpret_cast<uint16_t*>(wire), residual);
  else
    quantize_blocks(values, count, reinterpret_cast<BlockInt8*>(wire), residual);
}

void decompress(WireFormat format, const std::byte* wire, float* values, size_t count) {
  if (format == WireFormat::kBFloat16)
    decompress_bfloat16(reinterpret_cast<const uint16_t*>(wire), values, count);
  else
    dequantize_blocks(reinterpret_cast<const BlockInt8*>(wire), values, count);
}

}  // namespace deepseek_train::collectives
