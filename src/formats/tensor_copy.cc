#include "deepseek_train/formats/tensor_copy.h"

#include <algorithm>
#include <numeric>

#include "deepseek_train/core/error.h"
#include "deepseek_train/core/parallel.h"
#include "src/formats/stream_copy.h"

namespace deepseek_train::formats {
namespace {

// Long enough to hide a thread's start and the kernel's work for each call, short enough to share
// out the last tensor evenly.
constexpr uint64_t kPieceBytes = 4 << 20;
// Between two runs: a smaller gap costs less to read than to step over.
constexpr uint64_t kGapWorthSkipping = 64 << 10;

// A part of a tensor as it lies in the file: runs of bytes at equal distances.
struct Runs {
  const TensorCopy* copy = nullptr;
  uint64_t first = 0;   // byte of the tensor at which the first run begins
  uint64_t length = 0;  // of each run
  uint64_t stride = 0;  // from the start of one run to the next
};

uint64_t product(std::span<const int64_t> sizes) {
  return std::accumulate(sizes.begin(), sizes.end(), uint64_t{1},
                         [](uint64_t a, int64_t b) { return a * static_cast<uint64_t>(b); });
}

// The size of a tensor of a file is checked when the file is opened: no product overflows here.
Runs runs_of(const TensorCopy& copy) {
  const TensorView& tensor = *copy.tensor;
  if (!copy.slice) return {&copy, 0, tensor.bytes.size(), tensor.bytes.size()};
  const auto dimension = static_cast<size_t>(copy.slice->dimension);
  const uint64_t step =
      product(std::span(tensor.shape).subspan(dimension + 1)) * size_bytes(tensor.dtype);
  const auto begin = static_cast<uint64_t>(copy.slice->begin);
  const auto end = static_cast<uint64_t>(copy.slice->end);
  return {&copy, begin * step, (end - begin) * step,
          static_cast<uint64_t>(tensor.shape[dimension]) * step};
}

void check(const TensorCopy& copy) {
  const TensorView& tensor = *copy.tensor;
  const auto shape = copy.slice ? shape_of(tensor, *copy.slice) : tensor.shape;
  const uint64_t wanted = product(shape) * size_bytes(tensor.dtype);
  DST_CHECK(copy.destination.size() == wanted, describe(tensor), ": the part of shape ", shape,
            " takes ", wanted, " bytes, the destination has ", copy.destination.size());
}

// Bytes [begin, end) of a destination.
struct Piece {
  const Runs* runs;
  uint64_t begin;
  uint64_t end;
};

std::vector<Piece> pieces_of(const std::vector<Runs>& all) {
  std::vector<Piece> pieces;
  for (const Runs& runs : all) {
    const uint64_t size = runs.copy->destination.size();
    for (uint64_t begin = 0; begin < size; begin += kPieceBytes)
      pieces.push_back({&runs, begin, std::min(begin + kPieceBytes, size)});
  }
  return pieces;
}

void populate(const TensorView& tensor, std::span<const std::byte> part) {
  try {
    tensor.file->populate(part);
  } catch (const Unavailable& error) {
    throw Unavailable(concat("tensor \"", tensor.name, "\": ", error.what()));
  }
}

// Calls visit(source, offset in the destination) for each stretch of the piece without a gap.
template <typename Visit>
void for_each_stretch(const Piece& piece, Visit visit) {
  const Runs& runs = *piece.runs;
  for (uint64_t at = piece.begin; at < piece.end;) {
    const uint64_t within = at % runs.length;
    const uint64_t length = std::min(runs.length - within, piece.end - at);
    const uint64_t source = runs.first + at / runs.length * runs.stride + within;
    visit(runs.copy->tensor->bytes.subspan(source, length), at);
    at += length;
  }
}

void populate(const Piece& piece) {
  const Runs& runs = *piece.runs;
  const TensorView& tensor = *runs.copy->tensor;
  if (runs.stride - runs.length >= kGapWorthSkipping)
    return for_each_stretch(piece, [&](auto source, uint64_t) { populate(tensor, source); });
  const auto place = [&](uint64_t at) {
    return runs.first + at / runs.length * runs.stride + at % runs.length;
  };
  const uint64_t begin = place(piece.begin), last = place(piece.end - 1);
  populate(tensor, tensor.bytes.subspan(begin, last + 1 - begin));
}

void copy_piece(const Piece& piece) {
  populate(piece);
  std::byte* destination = piece.runs->copy->destination.data();
  for_each_stretch(piece, [&](std::span<const std::byte> source, uint64_t at) {
    stream_copy(destination + at, source);
  });
}

}  // namespace

std::vector<int64_t> shape_of(const TensorInfo& tensor, const TensorSlice& slice) {
  const auto num_dimensions = static_cast<int64_t>(tensor.shape.size());
  DST_CHECK(slice.dimension >= 0 && slice.dimension < num_dimensions, "tensor \"", tensor.name,
            "\" of shape ", tensor.shape, " has no dimension ", slice.dimension);
  auto shape = tensor.shape;
  int64_t& size = shape[static_cast<size_t>(slice.dimension)];
  DST_CHECK(slice.begin >= 0 && slice.begin <= slice.end && slice.end <= size, "tensor \"",
            tensor.name, "\" of shape ", tensor.shape, " has no part [", slice.begin, ", ",
            slice.end, ") of dimension ", slice.dimension);
  size = slice.end - slice.begin;
  return shape;
}

void copy_tensors(std::span<const TensorCopy> copies, int num_threads) {
  std::vector<Runs> runs;
  runs.reserve(copies.size());
  for (const TensorCopy& copy : copies) {
    check(copy);
    runs.push_back(runs_of(copy));
  }
  const auto pieces = pieces_of(runs);
  parallel_for(static_cast<int64_t>(pieces.size()), num_threads,
               [&](int64_t i) { copy_piece(pieces[static_cast<size_t>(i)]); });
}

}  // namespace deepseek_train::formats
