// megakernel-bench profile: starts megakernel-profile, whose kernel has clock marks, from the folder of this program.
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/bench/subcommand.h"

namespace megakernel::bench {

int RunProfile(std::span<const std::string> args) {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::string program = (self.parent_path() / "megakernel-profile").string();
  std::vector<std::string> words = {program};
  words.insert(words.end(), args.begin(), args.end());
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  execv(program.c_str(), pointers.data());
  std::fprintf(stderr, "megakernel-bench profile: %s cannot be started\n", program.c_str());
  return 1;
}

}  // namespace megakernel::bench
