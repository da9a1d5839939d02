#include "deepseek_train/formats/torch/tensor_file.h"

#include "deepseek_train/core/torch/dtype.h"

namespace deepseek_train::formats {

torch::Tensor as_tensor(const TensorView& view) {
  // from_blob takes a mutable pointer; the pages are mapped read-only, so a write would be a
  // mistake of ours.
  return torch::from_blob(const_cast<std::byte*>(view.bytes.data()), view.shape,
                          scalar_type_of(view.dtype));
}

void write_tensors(Env& env, const std::string& path, const std::vector<NamedTensor>& tensors,
                   const StringMap& metadata) {
  std::vector<TensorInfo> infos;
  for (const auto& [name, tensor] : tensors)
    infos.push_back({name, dtype_of(tensor.scalar_type()), tensor.sizes().vec()});
  SafetensorsWriter writer(env, path, std::move(infos), metadata);
  for (const auto& [name, tensor] : tensors) {
    auto contiguous = tensor.detach().contiguous();
    writer.write_next(
        {static_cast<const std::byte*>(contiguous.const_data_ptr()), contiguous.nbytes()});
  }
  writer.commit();
}

}  // namespace deepseek_train::formats
