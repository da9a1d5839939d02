# One function for each kind of target, so that every component is declared the same way.
include(GNUInstallDirs)

find_program(DST_CCACHE ccache)
if(DST_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${DST_CCACHE}")
endif()

set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")

# What all targets of ours share; linked PRIVATE, never exported.
add_library(dst_build_flags INTERFACE)
target_compile_options(dst_build_flags INTERFACE -Wall -Wextra -Wno-missing-field-initializers)
target_include_directories(dst_build_flags INTERFACE "${PROJECT_SOURCE_DIR}")
if(DST_SANITIZE)
  target_compile_options(dst_build_flags INTERFACE -fsanitize=${DST_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(dst_build_flags INTERFACE -fsanitize=${DST_SANITIZE})
endif()

# dst_add_library(NAME SOURCES ... [DEPS ...] [PRIVATE_DEPS ...] [TORCH])
# A component: target dst_NAME, alias deepseek_train::NAME. TORCH: precompiled libtorch header, fmt kept out.
function(dst_add_library name)
  cmake_parse_arguments(ARG "TORCH" "" "SOURCES;DEPS;PRIVATE_DEPS" ${ARGN})
  add_library(dst_${name} STATIC ${ARG_SOURCES})
  add_library(deepseek_train::${name} ALIAS dst_${name})
  set_target_properties(dst_${name} PROPERTIES EXPORT_NAME ${name})
  target_compile_features(dst_${name} PUBLIC cxx_std_20)
  target_include_directories(dst_${name} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_link_libraries(dst_${name} PUBLIC ${ARG_DEPS}
    PRIVATE $<BUILD_INTERFACE:dst_build_flags> ${ARG_PRIVATE_DEPS})
  if(ARG_TORCH)
    target_link_libraries(dst_${name} PUBLIC deepseek_train::torch)
    dst_reuse_torch_header(dst_${name})
  endif()
  set_property(GLOBAL APPEND PROPERTY DST_COMPONENTS dst_${name})
endfunction()

# The precompiled <torch/torch.h> is made once (target dst_torch_header) and shared by all targets with TORCH.
function(dst_reuse_torch_header target)
  if(DST_SANITIZE)
    return()
  endif()
  target_precompile_headers(${target} REUSE_FROM dst_torch_header)
  # The header is compiled with -fPIC; a program's -fPIE would make it useless.
  get_target_property(type ${target} TYPE)
  if(type STREQUAL "EXECUTABLE")
    set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
    target_compile_options(${target} PRIVATE -fPIC)
  endif()
endfunction()

# dst_add_test(NAME SOURCES ... DEPS ... [TORCH] [LABELS ...] [TIMEOUT s]): a GoogleTest program and its ctest.
function(dst_add_test name)
  cmake_parse_arguments(ARG "TORCH" "TIMEOUT" "SOURCES;DEPS;LABELS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} dst_build_flags GTest::gtest GTest::gtest_main)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests")
  if(ARG_TORCH)
    dst_reuse_torch_header(${name})
  endif()
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}")
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS "${ARG_LABELS}")
endfunction()

# dst_add_bench(NAME SOURCES ... DEPS ...): a program under build/<preset>/bench.
function(dst_add_bench name)
  cmake_parse_arguments(ARG "TORCH" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} dst_build_flags)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bench")
  if(ARG_TORCH)
    dst_reuse_torch_header(${name})
  endif()
endfunction()

# One precompiled <torch/torch.h> for all targets with TORCH: it saves half a minute for each source file.
function(dst_add_torch_header)
  file(WRITE "${CMAKE_BINARY_DIR}/dst_torch_header.cc" "// Owner of the precompiled libtorch header.\n")
  add_library(dst_torch_header STATIC "${CMAKE_BINARY_DIR}/dst_torch_header.cc")
  target_compile_features(dst_torch_header PUBLIC cxx_std_20)
  target_link_libraries(dst_torch_header PRIVATE deepseek_train::torch dst_build_flags)
  target_precompile_headers(dst_torch_header PRIVATE <torch/torch.h>)
endfunction()
