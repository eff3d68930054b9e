# mk_test(<name> SOURCES <files> LIBS <targets> [LABELS <labels>] [TIMEOUT <seconds>] [SERIAL])
# A GoogleTest program that ctest runs as one test named <name>. The label is "unit" unless given, the time limit 120 s
# (five times the limit under a sanitizer). SERIAL: alone on the machine, because it measures time.
#
# mk_python_test(<name> SCRIPT <file> [LABELS <labels>] [TIMEOUT <seconds>] [SERIAL])
# A Python program that drives the real programs; standard library only. The label is "e2e" unless given.
#
# MK_TSAN_SUPPRESSIONS, set in a folder before its tests: their suppressions under the thread sanitizer. Only for tests
# with gRPC in them.
#
# In the environment of every test: MEGAKERNEL_TEST_MODEL, the default model's file (deploy/fetch_model.sh puts it there);
# MEGAKERNEL_TEST_TOKENIZER, Qwen3's tokenizer.json (deploy/fetch_tokenizer.sh); MEGAKERNEL_BIN, the folder with the programs; MEGAKERNEL_TOOLS, the folder with grpcurl and ghz.
find_package(GTest REQUIRED)
find_program(MK_PYTHON python3 PATHS /usr/bin NO_DEFAULT_PATH REQUIRED)  # the distribution's
set(MK_TEST_MODEL ${CMAKE_SOURCE_DIR}/.cache/models/SmolLM2-135M-Instruct.Q4_1.gguf)
set(MK_TEST_TOKENIZER ${CMAKE_SOURCE_DIR}/.cache/models/qwen3.tokenizer.json)

# Limits, labels and environment of a test, whatever its program is.
function(mk_test_properties name labels timeout serial)
  if(MEGAKERNEL_SANITIZE)
    math(EXPR timeout "${timeout} * 5")
  endif()
  set(tsan "halt_on_error=1 second_deadlock_stack=1")
  if(MK_TSAN_SUPPRESSIONS)
    string(APPEND tsan " suppressions=${MK_TSAN_SUPPRESSIONS}")
  endif()
  set_tests_properties(${name} PROPERTIES LABELS "${labels}" TIMEOUT ${timeout} RUN_SERIAL ${serial}
    ENVIRONMENT "MEGAKERNEL_TEST_MODEL=${MK_TEST_MODEL};MEGAKERNEL_TEST_TOKENIZER=${MK_TEST_TOKENIZER};MEGAKERNEL_BIN=${CMAKE_BINARY_DIR}/bin;\
MEGAKERNEL_TOOLS=${CMAKE_SOURCE_DIR}/.cache/bin;PYTHONDONTWRITEBYTECODE=1;UBSAN_OPTIONS=print_stacktrace=1;TSAN_OPTIONS=${tsan}")
endfunction()

function(mk_test name)
  cmake_parse_arguments(T "SERIAL" "TIMEOUT" "SOURCES;LIBS;LABELS" ${ARGN})
  if(NOT T_LABELS)
    set(T_LABELS unit)
  endif()
  if(NOT T_TIMEOUT)
    set(T_TIMEOUT 120)
  endif()
  add_executable(${name} ${T_SOURCES})
  target_link_libraries(${name} PRIVATE mk_flags ${T_LIBS} GTest::gtest GTest::gtest_main GTest::gmock)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test(NAME ${name} COMMAND ${name})
  mk_test_properties(${name} "${T_LABELS}" ${T_TIMEOUT} ${T_SERIAL})
endfunction()

function(mk_python_test name)
  cmake_parse_arguments(T "SERIAL" "SCRIPT;TIMEOUT" "LABELS" ${ARGN})
  if(NOT T_LABELS)
    set(T_LABELS e2e)
  endif()
  if(NOT T_TIMEOUT)
    set(T_TIMEOUT 120)
  endif()
  add_test(NAME ${name} COMMAND ${MK_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/${T_SCRIPT})
  mk_test_properties(${name} "${T_LABELS}" ${T_TIMEOUT} ${T_SERIAL})
endfunction()
