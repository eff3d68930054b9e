# mk_grpc from the distribution's archives: the programs then need only glibc (libc, libm, the loader).
# The order of the archives matters: reflection and error details before gRPC, and pkg-config's --static order after.
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
  -Wl,-Bstatic -Wl,--start-group -lgrpc++_reflection -lgrpc++_error_details ${mk_static_libraries} -Wl,--end-group
  -Wl,-Bdynamic)
