# mk_proto_library(<name> MESSAGES <files> SERVICES <files> EXTERNAL <directory> <file> ...)
# One static library of generated code, compiled once, without warnings. MESSAGES have no service in them, SERVICES do;
# both are relative to proto/. EXTERNAL takes pairs: an import root and a .proto below it. The generated headers are
# included by the .proto's own name ("megakernel/v1/generation.pb.h").
# Link <name>: it brings every descriptor into the program, also those that no code names, because server reflection
# can only describe what is linked.
set(MK_PROTO_OUT ${CMAKE_BINARY_DIR}/proto/generated)

# Adds the command that generates from <file>, below <root>, and appends the sources to mk_proto_sources.
function(_mk_protoc root file services)
  string(REGEX REPLACE "\\.proto$" "" stem ${file})
  set(outputs ${MK_PROTO_OUT}/${stem}.pb.cc ${MK_PROTO_OUT}/${stem}.pb.h)
  set(flags)
  if(services)
    list(APPEND outputs ${MK_PROTO_OUT}/${stem}.grpc.pb.cc ${MK_PROTO_OUT}/${stem}.grpc.pb.h)
    set(flags --grpc_out=${MK_PROTO_OUT} --plugin=protoc-gen-grpc=${MK_GRPC_PLUGIN})
  endif()
  add_custom_command(OUTPUT ${outputs}
    COMMAND ${Protobuf_PROTOC_EXECUTABLE} ${mk_proto_imports} --cpp_out=${MK_PROTO_OUT} ${flags} ${root}/${file}
    DEPENDS ${mk_proto_files} ${root}/${file}
    COMMENT "Generating ${stem}.pb.cc" VERBATIM)
  set(mk_proto_sources ${mk_proto_sources} ${outputs} PARENT_SCOPE)
endfunction()

function(mk_proto_library name)
  cmake_parse_arguments(P "" "" "MESSAGES;SERVICES;EXTERNAL" ${ARGN})
  set(root ${CMAKE_SOURCE_DIR}/proto)
  set(mk_proto_imports -I${root})
  set(mk_proto_files)
  set(mk_proto_sources)
  foreach(file ${P_MESSAGES} ${P_SERVICES})
    list(APPEND mk_proto_files ${root}/${file})
  endforeach()
  set(pairs ${P_EXTERNAL})
  while(pairs)
    list(POP_FRONT pairs directory file)
    if(NOT EXISTS ${directory}/${file})
      message(FATAL_ERROR "${directory}/${file} is missing: run deploy/setup.sh")
    endif()
    list(APPEND mk_proto_imports -I${directory})
  endwhile()
  list(REMOVE_DUPLICATES mk_proto_imports)
  file(MAKE_DIRECTORY ${MK_PROTO_OUT})

  foreach(file ${P_MESSAGES})
    _mk_protoc(${root} ${file} OFF)
  endforeach()
  foreach(file ${P_SERVICES})
    _mk_protoc(${root} ${file} ON)
  endforeach()
  set(pairs ${P_EXTERNAL})
  while(pairs)
    list(POP_FRONT pairs directory file)
    file(STRINGS ${directory}/${file} services REGEX "^service ")
    if(services)
      _mk_protoc(${directory} ${file} ON)
    else()
      _mk_protoc(${directory} ${file} OFF)
    endif()
  endwhile()

  add_library(${name}_code STATIC ${mk_proto_sources})
  target_compile_features(${name}_code PUBLIC cxx_std_20)
  target_compile_options(${name}_code PRIVATE -w)
  target_include_directories(${name}_code SYSTEM PUBLIC ${MK_PROTO_OUT})
  target_link_libraries(${name}_code PUBLIC mk_grpc)
  if(MEGAKERNEL_SANITIZE STREQUAL "thread")
    # Protobuf's map_field.h puts two more members into its classes under the thread sanitizer, which the distribution's
    # library, built without, does not know of.
    target_compile_options(${name}_code PUBLIC -U__SANITIZE_THREAD__)
  endif()
  add_library(${name} INTERFACE)
  target_link_libraries(${name} INTERFACE "$<LINK_LIBRARY:WHOLE_ARCHIVE,${name}_code>")
endfunction()
