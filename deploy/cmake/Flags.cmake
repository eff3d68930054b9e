# mk_flags: what every target of the project is compiled with.
add_library(mk_flags INTERFACE)
target_compile_features(mk_flags INTERFACE cxx_std_20)
target_include_directories(mk_flags INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_options(mk_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wno-unused-parameter -ffp-contract=off>
  $<$<COMPILE_LANGUAGE:CUDA>:-std=c++20>)
if(MEGAKERNEL_WERROR)
  target_compile_options(mk_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
endif()
if(MEGAKERNEL_SANITIZE)
  target_compile_options(mk_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${MEGAKERNEL_SANITIZE} -fno-omit-frame-pointer -g>)
  target_link_options(mk_flags INTERFACE -fsanitize=${MEGAKERNEL_SANITIZE})
endif()
find_package(Threads REQUIRED)
target_link_libraries(mk_flags INTERFACE Threads::Threads)
