# The libraries of the distribution (Debian 12, Ubuntu 24.04); deploy/setup.sh installs them and the google/rpc protos.
option(MEGAKERNEL_STATIC "Link gRPC, Protobuf, Abseil and the C++ runtime into the programs: they then need only glibc" OFF)

find_package(absl REQUIRED)
find_package(spdlog REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(OpenSSL REQUIRED)
find_package(Protobuf REQUIRED)
find_package(PkgConfig REQUIRED)
find_program(MK_GRPC_PLUGIN grpc_cpp_plugin REQUIRED)

# mk_spdlog: the shared library, or for static programs the headers alone, because no archive is packaged.
add_library(mk_spdlog INTERFACE)
if(MEGAKERNEL_STATIC)
  target_compile_definitions(mk_spdlog INTERFACE SPDLOG_FMT_EXTERNAL FMT_HEADER_ONLY)
  target_link_libraries(mk_spdlog INTERFACE Threads::Threads)
else()
  target_link_libraries(mk_spdlog INTERFACE spdlog::spdlog)
endif()
# GCC 13 is wrong about the bounds of fmt's big numbers where it inlines them into our code.
if(CMAKE_CXX_COMPILER_VERSION VERSION_GREATER_EQUAL 13)
  target_compile_options(mk_spdlog INTERFACE -Wno-array-bounds -Wno-stringop-overflow)
endif()

# mk_grpc: gRPC with server reflection and error details. pkg-config is used, not the CMake package: the latter knows
# shared libraries only.
pkg_check_modules(MK_GRPC REQUIRED IMPORTED_TARGET grpc++)
add_library(mk_grpc INTERFACE)
if(MEGAKERNEL_STATIC)
  include(Static)  # mk_grpc and all others from archives
else()
  target_link_libraries(mk_grpc INTERFACE grpc++_reflection grpc++_error_details grpcpp_channelz PkgConfig::MK_GRPC protobuf::libprotobuf)
endif()

find_path(MK_GOOGLE_PROTOS google/rpc/error_details.proto PATHS ${CMAKE_SOURCE_DIR}/.cache/protos NO_DEFAULT_PATH)
