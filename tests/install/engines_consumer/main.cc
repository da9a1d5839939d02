// Uses every engine once, so that the linker has to find all of them and what they need.
#include <cstdio>
#include <vector>

#include "deepseek_train/collectives/communicator.h"
#include "deepseek_train/core/env.h"
#include "deepseek_train/core/error.h"
#include "deepseek_train/core/version.h"
#include "deepseek_train/data/token_store.h"
#include "deepseek_train/formats/safetensors.h"
#include "deepseek_train/quantization/scheme.h"
#include "deepseek_train/text/tokenizer.h"

using namespace deepseek_train;

template <typename Open>
int refused(const Open& open) {
  try {
    open();
  } catch (const Error&) {
    return 1;
  }
  return 0;
}

int main() {
  auto communicator =
      collectives::make_communicator({.launch = collectives::launch_info_from_environment()});
  std::vector<float> values(1000, static_cast<float>(communicator->rank() + 1));
  communicator->all_reduce(std::span(values));
  const int num_refused =
      refused([] { data::TokenStore(posix_env(), "/no/such/store.h5"); }) +
      refused([] { formats::SafetensorsFile(posix_env(), "/no/such/file.safetensors"); }) +
      refused([] { text::Tokenizer::from_json("{", ""); }) +
      refused([] { quantization::scheme_by_name("w3a3"); });
  if (communicator->rank() == 0)
    std::printf("%s, %d ranks, sum %g, %d refused\n", std::string(version()).c_str(),
                communicator->size(), static_cast<double>(values.back()), num_refused);
}
