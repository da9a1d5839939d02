// Each chunk is cut into one slice a rank. All terms of a slice travel to its owner (all_to_all),
// who adds them exactly and gives the rounded sum to all (all_gather).
#include <algorithm>
#include <cstring>
#include <vector>

#include "collectives/algorithms/exact_sum.h"
#include "collectives/algorithms/partition.h"
#include "deepseek_train/collectives/exact.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

constexpr size_t kScratchBytes = 4 << 20;  // what a rank receives at once, about

template <typename T>
using Terms = std::span<const std::span<const T>>;

// How many terms each rank brings. Throws on all ranks alike if a size differs anywhere.
template <typename T>
std::vector<size_t> agree_on_terms(Communicator& communicator, Terms<T> terms, size_t count,
                                   std::source_location site) {
  int64_t odd_size = -1;
  for (const auto& term : terms) {
    if (term.size() != count) odd_size = static_cast<int64_t>(term.size());
  }
  const int64_t mine[] = {static_cast<int64_t>(count), static_cast<int64_t>(terms.size()),
                          odd_size};
  std::vector<int64_t> all(std::size(mine) * communicator.size());
  communicator.all_gather(std::span<const int64_t>(mine), std::span(all), site);
  std::vector<size_t> num_terms;
  for (int r = 0; r < communicator.size(); ++r) {
    const int64_t* theirs = &all[std::size(mine) * r];
    DST_CHECK(theirs[0] == all[0], "all_reduce_exact: rank ", r, " sums ", theirs[0],
              " elements, rank 0 ", all[0], "; all must sum the same number");
    DST_CHECK(theirs[2] < 0, "all_reduce_exact: rank ", r, " has a term of ", theirs[2],
              " elements; the sum has ", theirs[0]);
    num_terms.push_back(static_cast<size_t>(theirs[1]));
  }
  return num_terms;
}

template <typename T>
class ExactReduction {
 public:
  ExactReduction(Communicator& communicator, Terms<T> terms, std::span<T> sum,
                 std::vector<size_t> num_terms, std::source_location site)
      : communicator_(communicator),
        terms_(terms),
        sum_(sum),
        num_terms_(std::move(num_terms)),
        site_(site) {
    for (size_t n : num_terms_) total_terms_ += n;
  }

  void run() {
    const size_t slice =
        std::max<size_t>(kScratchBytes / sizeof(T) / std::max<size_t>(total_terms_, 1), 64);
    const size_t chunk = slice * communicator_.size();
    for (size_t begin = 0; begin < sum_.size(); begin += chunk)
      reduce_chunk(sum_.subspan(begin, std::min(chunk, sum_.size() - begin)), begin);
  }

 private:
  Slice slice_of_rank(size_t count, int rank) const {
    return slice_of(count, sizeof(T), rank, communicator_.size());
  }

  void reduce_chunk(std::span<T> sum, size_t begin) {
    const Slice own = slice_of_rank(sum.size(), communicator_.rank());
    scatter_terms(sum.size(), begin, own.size());
    std::vector<const T*> sources(total_terms_);
    for (size_t k = 0; k < total_terms_; ++k) sources[k] = received_.data() + k * own.size();
    exact_sum(sources, sum.data() + own.begin, own.size());
    gather_sums(sum, own);
  }

  // received_ = the own slice of every term, in rank order.
  void scatter_terms(size_t count, size_t begin, size_t own_size) {
    CollectiveCall call{.kind = Collective::kAllToAll, .dtype = dtype_of<T>(), .site = site_};
    for (int r = 0; r < communicator_.size(); ++r) {
      call.in_counts.push_back(terms_.size() * slice_of_rank(count, r).size());
      call.out_counts.push_back(num_terms_[r] * own_size);
    }
    received_.resize(std::max(received_.size(), total_terms_ * own_size));
    call.in = terms_.size() == 1 ? terms_[0].data() + begin : pack(count, begin);
    call.out = received_.data();
    call.count = call.out_counts[communicator_.rank()];
    communicator_.run(call);
  }

  // The slices for rank 0 of all terms, then those for rank 1, ...
  const T* pack(size_t count, size_t begin) {
    packed_.resize(terms_.size() * count);
    T* place = packed_.data();
    for (int r = 0; r < communicator_.size(); ++r) {
      const Slice slice = slice_of_rank(count, r);
      for (const auto& term : terms_)
        place = std::copy_n(term.data() + begin + slice.begin, slice.size(), place);
    }
    return packed_.data();
  }

  void gather_sums(std::span<T> sum, Slice own) {
    CollectiveCall call{.kind = Collective::kAllGather,
                        .in = sum.data() + own.begin,
                        .out = sum.data(),
                        .count = own.size(),
                        .dtype = dtype_of<T>(),
                        .site = site_};
    for (int r = 0; r < communicator_.size(); ++r)
      call.out_counts.push_back(slice_of_rank(sum.size(), r).size());
    communicator_.run(call);
  }

  Communicator& communicator_;
  const Terms<T> terms_;
  const std::span<T> sum_;
  const std::vector<size_t> num_terms_;
  const std::source_location site_;
  size_t total_terms_ = 0;
  std::vector<T> packed_;
  std::vector<T> received_;
};

template <typename T>
void reduce(Communicator& communicator, Terms<T> terms, std::span<T> sum,
            std::source_location site) {
  auto num_terms = agree_on_terms(communicator, terms, sum.size(), site);
  ExactReduction<T>(communicator, terms, sum, std::move(num_terms), site).run();
}

template <typename T>
void reduce_in_place(Communicator& communicator, std::span<T> data, std::source_location site) {
  const std::span<const T> term = data;
  reduce<T>(communicator, {&term, 1}, data, site);
}

}  // namespace

void all_reduce_exact(Communicator& communicator, std::span<float> data,
                      std::source_location site) {
  reduce_in_place(communicator, data, site);
}
void all_reduce_exact(Communicator& communicator, std::span<double> data,
                      std::source_location site) {
  reduce_in_place(communicator, data, site);
}
void all_reduce_exact(Communicator& communicator, std::span<const std::span<const float>> terms,
                      std::span<float> sum, std::source_location site) {
  reduce<float>(communicator, terms, sum, site);
}
void all_reduce_exact(Communicator& communicator, std::span<const std::span<const double>> terms,
                      std::span<double> sum, std::source_location site) {
  reduce<double>(communicator, terms, sum, site);
}

}  // namespace deepseek_train::collectives
