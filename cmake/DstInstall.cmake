# Install and export: find_package(deepseek_train) gives deepseek_train::<component> and the umbrella
# deepseek_train::deepseek_train. The packages the components use are looked for again on the user's machine.
include(CMakePackageConfigHelpers)

get_property(components GLOBAL PROPERTY DST_COMPONENTS)
add_library(dst_umbrella INTERFACE)
add_library(deepseek_train::deepseek_train ALIAS dst_umbrella)
set_target_properties(dst_umbrella PROPERTIES EXPORT_NAME deepseek_train)
target_link_libraries(dst_umbrella INTERFACE ${components})

set(package_folder "${CMAKE_INSTALL_LIBDIR}/cmake/deepseek_train")
install(TARGETS ${components} dst_umbrella EXPORT deepseek_trainTargets)
install(EXPORT deepseek_trainTargets NAMESPACE deepseek_train:: DESTINATION "${package_folder}")
install(DIRECTORY include/deepseek_train DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
configure_package_config_file(cmake/deepseek_trainConfig.cmake.in "${CMAKE_BINARY_DIR}/deepseek_trainConfig.cmake"
  INSTALL_DESTINATION "${package_folder}")
write_basic_package_version_file("${CMAKE_BINARY_DIR}/deepseek_trainConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${CMAKE_BINARY_DIR}/deepseek_trainConfig.cmake" "${CMAKE_BINARY_DIR}/deepseek_trainConfigVersion.cmake"
  cmake/DstDependencies.cmake cmake/DstTorch.cmake DESTINATION "${package_folder}")
