// A library loaded at run time.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {

// Move-only; lets go of the library on destruction.
class SharedLibrary {
 public:
  // The library of this name if the process has it already, else the first of `candidates` that
  // loads. Throws Unavailable with the loader's reasons.
  SharedLibrary(const std::string& name, const std::vector<std::string>& candidates);
  SharedLibrary(SharedLibrary&& other) noexcept
      : name_(std::move(other.name_)), handle_(std::exchange(other.handle_, nullptr)) {}
  SharedLibrary& operator=(SharedLibrary&&) = delete;
  ~SharedLibrary();

  // Sets the function pointer; null if the library has no such function.
  template <typename Function>
  void find_optional(const char* symbol, Function*& function) const {
    function = reinterpret_cast<Function*>(address_of(symbol));
  }
  // Throws Unavailable if it has none.
  template <typename Function>
  void find(const char* symbol, Function*& function) const {
    find_optional(symbol, function);
    DST_CHECK_AS(Unavailable, function, name_, " has no function ", symbol, "; it is too old");
  }

 private:
  void* address_of(const char* symbol) const;

  std::string name_;
  void* handle_ = nullptr;
};

}  // namespace deepseek_train::collectives
