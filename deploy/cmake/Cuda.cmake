# Finds nvcc from CUDA 12.4 on: $CUDACXX, then an installed toolkit, then the wheels that `deploy/setup.sh cuda` unpacks.
# Compiles for sm_90a with the static runtime, so that a program needs only the driver.
set(MK_CUDA_MINIMUM 12.4)
if(NOT CMAKE_CUDA_COMPILER)
  foreach(candidate $ENV{CUDACXX} $ENV{CUDA_HOME}/bin/nvcc /usr/local/cuda/bin/nvcc ${CMAKE_SOURCE_DIR}/.cache/cuda/bin/nvcc)
    if(NOT EXISTS ${candidate})
      continue()
    endif()
    execute_process(COMMAND ${candidate} --version OUTPUT_VARIABLE text ERROR_QUIET)
    string(REGEX MATCH "release ([0-9]+\\.[0-9]+)" found "${text}")
    if(found AND CMAKE_MATCH_1 VERSION_GREATER_EQUAL MK_CUDA_MINIMUM)
      set(CMAKE_CUDA_COMPILER ${candidate} CACHE FILEPATH "nvcc")
      break()
    endif()
    message(STATUS "Not used: ${candidate} (${MK_CUDA_MINIMUM} or newer is needed)")
  endforeach()
endif()
if(NOT CMAKE_CUDA_COMPILER)
  message(FATAL_ERROR "No nvcc ${MK_CUDA_MINIMUM} or newer: set CUDACXX or run deploy/setup.sh cuda")
endif()

if(NOT CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 90a CACHE STRING "sm_90a: Hopper with its bulk copies and warp-group instructions")
endif()
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
# CMake 3.25 cannot ask nvcc for C++20 (cuda_std_20 fails to configure); Flags.cmake passes -std=c++20 itself.
set(CMAKE_CUDA_FLAGS_RELEASE "-O3" CACHE STRING "")
enable_language(CUDA)

# mk_cudart: the runtime for host code. Not from FindCUDAToolkit, which in CMake 3.25 stops at CUDA 13 (no nvToolsExt).
get_filename_component(MK_CUDA_ROOT ${CMAKE_CUDA_COMPILER} REALPATH)
get_filename_component(MK_CUDA_ROOT ${MK_CUDA_ROOT}/../.. ABSOLUTE)
find_path(MK_CUDA_INCLUDE cuda_runtime.h PATHS ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES} ${MK_CUDA_ROOT}/include
  ${MK_CUDA_ROOT}/targets/x86_64-linux/include NO_DEFAULT_PATH REQUIRED)
find_library(MK_CUDART cudart_static PATHS ${MK_CUDA_ROOT}/lib64 ${MK_CUDA_ROOT}/targets/x86_64-linux/lib NO_DEFAULT_PATH REQUIRED)
add_library(mk_cudart INTERFACE)
target_include_directories(mk_cudart SYSTEM INTERFACE ${MK_CUDA_INCLUDE})
target_link_libraries(mk_cudart INTERFACE ${MK_CUDART} ${CMAKE_DL_LIBS} rt Threads::Threads)
message(STATUS "CUDA ${CMAKE_CUDA_COMPILER_VERSION}: ${CMAKE_CUDA_COMPILER}")
