#include "collectives/backends/nccl/shared_library.h"

#include <dlfcn.h>

namespace deepseek_train::collectives {

SharedLibrary::SharedLibrary(const std::string& name, const std::vector<std::string>& candidates)
    : name_(name) {
  handle_ = ::dlopen(name.c_str(), RTLD_NOW | RTLD_NOLOAD);
  std::string reasons;
  for (const auto& candidate : candidates) {
    if (handle_) return;
    handle_ = ::dlopen(candidate.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!handle_) reasons += concat("; ", ::dlerror());
  }
  DST_CHECK_AS(Unavailable, handle_, "cannot load ", name, reasons);
}

SharedLibrary::~SharedLibrary() {
  if (handle_) ::dlclose(handle_);
}

void* SharedLibrary::address_of(const char* symbol) const { return ::dlsym(handle_, symbol); }

}  // namespace deepseek_train::collectives
