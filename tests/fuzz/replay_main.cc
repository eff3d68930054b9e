// Runs a fuzz target on every file of a corpus, without a fuzzer:
//   fuzz_NAME_replay FOLDER
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "tests/fuzz/fuzz_target.h"

int main(int argc, char** argv) {
  if (argc != 2) return std::fprintf(stderr, "usage: %s FOLDER\n", argv[0]), 2;
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(argv[1])) {
    std::ifstream file(entry.path(), std::ios::binary);
    const std::vector<char> bytes(std::istreambuf_iterator<char>(file), {});
    const auto begin = std::chrono::steady_clock::now();
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    if (took.count() > 10.0) return std::fprintf(stderr, "%s took %.1f s\n", entry.path().c_str(), took.count()), 1;
    ++files;
  }
  std::printf("%d files\n", files);
  return files > 0 ? 0 : 1;
}
