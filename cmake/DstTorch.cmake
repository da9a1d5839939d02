# libtorch as an imported target of our own: the wheel's find_package(Torch) fails where there is no CUDA toolkit.
# DST_TORCH_ROOT is the folder with include/ and lib/; looked for in .venv, in CMAKE_PREFIX_PATH, then in python3.
if(NOT DST_TORCH_ROOT)
  file(GLOB candidates "${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch")
  find_path(torch_in_prefix NAMES include/torch/csrc/api/include/torch/torch.h)
  list(APPEND candidates "${torch_in_prefix}")
  execute_process(COMMAND python3 -c "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
    OUTPUT_VARIABLE torch_in_python OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  list(APPEND candidates "${torch_in_python}")
  foreach(candidate IN LISTS candidates)
    if(EXISTS "${candidate}/include/torch/csrc/api/include/torch/torch.h")
      set(DST_TORCH_ROOT "${candidate}" CACHE PATH "Folder of libtorch (include/ and lib/)")
      break()
    endif()
  endforeach()
endif()
if(NOT EXISTS "${DST_TORCH_ROOT}/lib/libtorch_cpu.so")
  message(FATAL_ERROR "libtorch was not found (DST_TORCH_ROOT='${DST_TORCH_ROOT}'). Run cmake/bootstrap.sh, which installs "
    "torch==2.11.0 into .venv, or pass -DDST_TORCH_ROOT=<folder with include/ and lib/>, or -DDST_WITH_TORCH=OFF.")
endif()
message(STATUS "libtorch: ${DST_TORCH_ROOT}")

add_library(deepseek_train::torch INTERFACE IMPORTED GLOBAL)
set_target_properties(deepseek_train::torch PROPERTIES
  INTERFACE_INCLUDE_DIRECTORIES "${DST_TORCH_ROOT}/include;${DST_TORCH_ROOT}/include/torch/csrc/api/include"
  INTERFACE_LINK_DIRECTORIES "${DST_TORCH_ROOT}/lib"
  INTERFACE_LINK_LIBRARIES "torch;torch_cpu;c10"
  INTERFACE_LINK_OPTIONS "LINKER:-rpath,${DST_TORCH_ROOT}/lib")
