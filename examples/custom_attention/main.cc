// The whole job of a recipe with an attention of one's own in the model: fine-tune, quantize,
// export, evaluate. usage: mpirun -n 2 custom_attention RECIPE.yaml
#include <cstdio>

#include "deepseek_train/deepseek_train.h"
#include "head_temperature.h"

using namespace deepseek_train;

namespace {

class PrintedLoss final : public MetricsSink {
 public:
  explicit PrintedLoss(bool lead) : lead_(lead) {}
  void record(int64_t step, const MetricValues& values) override {
    for (const auto& [name, value] : values)
      if (lead_ && name == "loss")
        std::printf("step %ld loss %.4f\n", static_cast<long>(step), value);
  }

 private:
  bool lead_;
};

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 2) {
    std::fprintf(stderr, "usage: custom_attention RECIPE.yaml\n");
    return 2;
  }
  const auto recipe = tuning::load_recipe(posix_env(), argv[1]);
  auto communicator =
      collectives::make_communicator({.launch = collectives::launch_info_from_environment()});
  PrintedLoss metrics(communicator->rank() == 0);
  const auto blocks = courier::blocks();
  tuning::JobContext context{.recipe = recipe,
                             .env = posix_env(),
                             .communicator = *communicator,
                             .metrics = metrics,
                             .blocks = &blocks};
  if (!tuning::train(context)) return 1;
  auto report = tuning::evaluate_run(context);
  if (communicator->rank() == 0) std::printf("%s\n", tuning::to_text(report).c_str());
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "custom_attention: %s\n", error.what());
  return 1;
}
