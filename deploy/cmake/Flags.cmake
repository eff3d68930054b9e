# mk_flags: what every target of the project is compiled with.
set(CMAKE_CXX_EXTENSIONS OFF)

# ccache where there is one; with paths relative to the checkout, so that two checkouts share it.
find_program(MK_CCACHE ccache)
if(MK_CCACHE AND NOT DEFINED CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1 ${MK_CCACHE})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CMAKE_CXX_COMPILER_LAUNCHER})
endif()

add_library(mk_flags INTERFACE)
target_compile_features(mk_flags INTERFACE cxx_std_20)
target_include_directories(mk_flags INTERFACE ${CMAKE_SOURCE_DIR})
# -ffp-contract=off: a fused multiply-add only where the code says so, or equal rows would differ between call sites.
target_compile_options(mk_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wno-unused-parameter -ffp-contract=off>
  $<$<COMPILE_LANGUAGE:CUDA>:-std=c++20>)
if(MEGAKERNEL_WERROR)
  target_compile_options(mk_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
endif()
if(MEGAKERNEL_SANITIZE)
  # Every finding ends the program, and the standard library's own checks are on. GCC's manual warns that its flow
  # analysis is wrong about -Wmaybe-uninitialized in instrumented code; the other presets have that warning.
  target_compile_options(mk_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${MEGAKERNEL_SANITIZE}
    -fno-sanitize-recover=all -fno-omit-frame-pointer -g1 -Wno-maybe-uninitialized>)
  target_compile_definitions(mk_flags INTERFACE _GLIBCXX_ASSERTIONS)
  target_link_options(mk_flags INTERFACE -fsanitize=${MEGAKERNEL_SANITIZE})
endif()
find_package(Threads REQUIRED)
target_link_libraries(mk_flags INTERFACE Threads::Threads)
