# CPack reads this once for each kind of package: what goes into it, as build folder, project, component, subfolder. The
# service has its places in a .deb and is a folder of examples in an archive.
list(GET CPACK_INSTALL_CMAKE_PROJECTS 0 mk_build)
if(CPACK_GENERATOR STREQUAL DEB)
  set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
  set(mk_service service)
else()
  set(mk_service service_files)
endif()
set(CPACK_INSTALL_CMAKE_PROJECTS ${mk_build} megakernel Unspecified / ${mk_build} megakernel ${mk_service} /)
