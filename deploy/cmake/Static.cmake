# Links the programs against the distribution's archives: they then need only glibc (libc, libm, the loader).

# Every imported shared library that has an archive beside it is replaced by it: two copies of Abseil, one shared and
# one not, must never meet in a process.
get_property(mk_imported DIRECTORY PROPERTY IMPORTED_TARGETS)
foreach(target ${mk_imported})
  get_target_property(type ${target} TYPE)
  if(NOT type MATCHES "^(SHARED|UNKNOWN)_LIBRARY$")
    continue()
  endif()
  get_target_property(configurations ${target} IMPORTED_CONFIGURATIONS)
  set(properties IMPORTED_LOCATION)
  foreach(configuration ${configurations})
    list(APPEND properties IMPORTED_LOCATION_${configuration})
  endforeach()
  foreach(property ${properties})
    get_target_property(location ${target} ${property})
    if(location)
      string(REGEX REPLACE "\\.so[.0-9]*$" ".a" archive "${location}")
      if(EXISTS ${archive})
        set_target_properties(${target} PROPERTIES ${property} ${archive})
      endif()
    endif()
  endforeach()
endforeach()
add_link_options(-static-libstdc++ -static-libgcc)

# mk_grpc. Its archives refer to each other in circles, hence the group.
execute_process(COMMAND ${PKG_CONFIG_EXECUTABLE} --static --libs-only-l grpc++ protobuf
  OUTPUT_VARIABLE mk_static_libraries OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
separate_arguments(mk_static_libraries)
list(FILTER mk_static_libraries INCLUDE REGEX "^-l")
# glibc's own parts stay shared: the GPU driver is loaded at run time, which a wholly static program cannot do.
list(FILTER mk_static_libraries EXCLUDE REGEX "^-l(dl|m|pthread|rt|c|atomic|systemd|cap)$")
# Repeated names cost the linker time; the last mention is the one that must stay.
list(REVERSE mk_static_libraries)
list(REMOVE_DUPLICATES mk_static_libraries)
list(REVERSE mk_static_libraries)
target_include_directories(mk_grpc SYSTEM INTERFACE ${MK_GRPC_INCLUDE_DIRS} ${Protobuf_INCLUDE_DIRS})
target_link_libraries(mk_grpc INTERFACE
  -Wl,-Bstatic -Wl,--start-group -lgrpc++_reflection -lgrpc++_error_details -lgrpcpp_channelz ${mk_static_libraries} -Wl,--end-group
  -Wl,-Bdynamic)
