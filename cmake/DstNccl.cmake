# Headers of the CUDA runtime and of NCCL, for the NCCL backend. The libraries are loaded at run time (gpu_api.cc), so
# nothing is linked and the package that is installed does not ask for them; where they are now is only a hint.
set(cuda_roots "$ENV{CUDA_HOME}" "$ENV{CUDA_PATH}" /usr/local/cuda)
find_path(DST_CUDA_INCLUDE_DIR cuda_runtime_api.h HINTS ${cuda_roots} PATH_SUFFIXES include targets/x86_64-linux/include)
find_path(DST_NCCL_INCLUDE_DIR nccl.h HINTS ${cuda_roots} PATH_SUFFIXES include)
if(NOT DST_CUDA_INCLUDE_DIR OR NOT DST_NCCL_INCLUDE_DIR)
  message(FATAL_ERROR "DST_WITH_NCCL needs cuda_runtime_api.h (found: ${DST_CUDA_INCLUDE_DIR}) and nccl.h "
    "(found: ${DST_NCCL_INCLUDE_DIR}). Install the CUDA toolkit and libnccl-dev, or name their folders with "
    "-DDST_CUDA_INCLUDE_DIR= and -DDST_NCCL_INCLUDE_DIR=.")
endif()
find_library(DST_CUDART_LIBRARY cudart HINTS ${cuda_roots} PATH_SUFFIXES lib64 lib targets/x86_64-linux/lib)
find_library(DST_NCCL_LIBRARY nccl HINTS ${cuda_roots} PATH_SUFFIXES lib64 lib)

add_library(dst_gpu_headers INTERFACE)
target_include_directories(dst_gpu_headers SYSTEM INTERFACE "${DST_CUDA_INCLUDE_DIR}" "${DST_NCCL_INCLUDE_DIR}")
foreach(library DST_CUDART_LIBRARY DST_NCCL_LIBRARY)
  if(NOT ${library})
    set(${library} "")
  endif()
  target_compile_definitions(dst_gpu_headers INTERFACE ${library}="${${library}}")
endforeach()
target_link_libraries(dst_gpu_headers INTERFACE ${CMAKE_DL_LIBS})
message(STATUS "NCCL headers: ${DST_NCCL_INCLUDE_DIR}")
