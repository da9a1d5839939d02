#include <algorithm>
#include <cmath>
#include <string_view>

#include "collectives/algorithms/compressed_codec.h"
#include "collectives/algorithms/partition.h"
#include "collectives/algorithms/tree_reduce.h"
#include "deepseek_train/collectives/compressed.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

// Values that are decompressed and summed at a time: all ranks' rows stay in the cache.
constexpr size_t kRow = 16 * CompressedAllReduce::kBlock;

// Whole blocks for everybody; the last shares may be smaller or empty.
Slice block_slice_of(size_t count, int rank, int num_ranks) {
  constexpr size_t kBlock = CompressedAllReduce::kBlock;
  const size_t num_blocks = (count + kBlock - 1) / kBlock;
  const size_t share = (num_blocks + num_ranks - 1) / num_ranks * kBlock;
  const size_t begin = std::min(count, share * rank);
  return {begin, std::min(count, begin + share)};
}

}  // namespace

// Which values belong to which rank, and where their compressed form lies among all ranks' parts.
struct CompressedAllReduce::Parts {
  Parts(size_t count, WireFormat format, int num_ranks) {
    for (int r = 0; r < num_ranks; ++r) {
      slices.push_back(block_slice_of(count, r, num_ranks));
      bytes.push_back(wire_bytes(format, slices[r].size()));
      offsets.push_back(total_bytes);
      total_bytes += bytes[r];
    }
  }
  std::vector<Slice> slices;
  std::vector<size_t> bytes;
  std::vector<size_t> offsets;
  size_t total_bytes = 0;
};

CompressedAllReduce::CompressedAllReduce(size_t count, const CompressionOptions& options)
    : count_(count), options_(options), residual_(options.has_error_feedback ? count : 0) {}

void CompressedAllReduce::set_residual(std::span<const float> residual) {
  DST_CHECK(residual.size() == residual_.size(), "CompressedAllReduce: a residual of ",
            residual.size(), " values; wanted ", residual_.size());
  std::copy(residual.begin(), residual.end(), residual_.begin());
}

void CompressedAllReduce::reset() { std::fill(residual_.begin(), residual_.end(), 0.0f); }

double CompressedAllReduce::error_bound(WireFormat format, double b, int num_ranks) {
  const double steps = format == WireFormat::kInt8Blocks ? 127 : 127.5;
  return b * (1 / steps + (num_ranks + 4) * 0x1p-23) + num_ranks * 0x1p-100;
}

void CompressedAllReduce::all_reduce(Communicator& communicator, std::span<float> data,
                                     std::source_location site) {
  DST_CHECK(data.size() == count_, "CompressedAllReduce for ", count_, " values got ", data.size(),
            "; make one for each buffer");
  const int size = communicator.size();
  const int rank = communicator.rank();
  if (size == 1) return;
  const Parts parts(count_, options_.format, size);
  std::vector<size_t> outgoing_bytes = parts.bytes;
  std::vector<size_t> incoming_bytes(size, parts.bytes[rank]);
  outgoing_bytes[rank] = incoming_bytes[rank] = 0;  // one's own values need not travel

  compress_outgoing(data, parts, rank);
  incoming_.resize(parts.bytes[rank] * (size - 1));
  communicator.run({.kind = Collective::kAllToAll,
                    .in = outgoing_.data(),
                    .out = incoming_.data(),
                    .dtype = DType::kUInt8,
                    .in_counts = std::move(outgoing_bytes),
                    .out_counts = std::move(incoming_bytes),
                    .site = site});
  reduce_own(data, parts, rank);
  communicator.run({.kind = Collective::kAllGather,
                    .in = &sums_[parts.offsets[rank]],
                    .out = sums_.data(),
                    .count = parts.bytes[rank],
                    .dtype = DType::kUInt8,
                    .out_counts = parts.bytes,
                    .site = site});
  decompress_sums(data, parts);
}

// Adds what was lost last time; then everything is lost that does not arrive.
void CompressedAllReduce::compress_outgoing(std::span<float> data, const Parts& parts, int rank) {
  for (size_t i = 0; i < residual_.size(); ++i) data[i] += residual_[i];
  outgoing_.resize(parts.total_bytes - parts.bytes[rank]);
  std::byte* wire = outgoing_.data();
  for (size_t r = 0; r < parts.slices.size(); ++r) {
    const Slice slice = parts.slices[r];
    if (static_cast<int>(r) == rank || slice.size() == 0) continue;
    compress(options_.format, &data[slice.begin], slice.size(), wire, residual_at(slice.begin));
    wire += parts.bytes[r];
  }
}

// The sum of the own slice over ranks, compressed, to its place in sums_.
void CompressedAllReduce::reduce_own(std::span<float> data, const Parts& parts, int rank) {
  const int size = static_cast<int>(parts.slices.size());
  const Slice own = parts.slices[rank];
  sums_.resize(parts.total_bytes + 1);  // one more, so that an empty last part has an address
  rows_.resize(size * kRow);
  std::vector<const std::byte*> sources(size);
  for (int r = 0; r < size; ++r) sources[r] = reinterpret_cast<const std::byte*>(&rows_[r * kRow]);
  std::byte* const sum = reinterpret_cast<std::byte*>(&rows_[rank * kRow]);
  for (size_t begin = own.begin; begin < own.end; begin += kRow) {
    const size_t count = std::min(kRow, own.end - begin);
    const size_t wire_offset = wire_bytes(options_.format, begin - own.begin);
    const std::byte* part = incoming_.data() + wire_offset;
    for (int r = 0; r < size; ++r) {
      if (r == rank) {
        std::copy_n(&data[begin], count, &rows_[r * kRow]);
        continue;
      }
      decompress(options_.format, part, &rows_[r * kRow], count);
      part += parts.bytes[rank];
    }
    tree_reduce(DType::kFloat32, ReduceOp::kSum, sources, {&sum, 1}, count);
    compress(options_.format, &rows_[rank * kRow], count, &sums_[parts.offsets[rank] + wire_offset],
             residual_at(begin));
  }
}

void CompressedAllReduce::decompress_sums(std::span<float> data, const Parts& parts) {
  for (size_t r = 0; r < parts.slices.size(); ++r) {
    const Slice slice = parts.slices[r];
    if (slice.size() == 0) continue;
    decompress(options_.format, &sums_[parts.offsets[r]], &data[slice.begin], slice.size());
  }
}

}  // namespace deepseek_train::collectives
