// The server's JSON file and its flags. What was read can be written and read again.
#include <string>
#include <vector>

#include "engine/base/check.h"
#include "server/command_line.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/input_reader.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace megakernel;
  ServerOptions options;
  if (size > 0 && data[0] != '{') {
    // Flags, one a line. --config would read files of this machine.
    std::vector<std::string> arguments;
    std::string line;
    for (const char c : test::AsText(data, size)) {
      if (c != '\n') {
        line += c;
      } else if (line.find("config") == std::string::npos) {
        arguments.push_back(std::move(line));
        line.clear();
      } else {
        line.clear();
      }
    }
    const auto parsed = ParseCommandLine(arguments);
    MK_CHECK(parsed.ok() || !parsed.status().message().empty());
    if (!parsed.ok()) return 0;
    options = parsed->options;
  } else if (!ReadConfigText(std::string(test::AsText(data, size)), "server.json", options).ok()) {
    return 0;
  }
  (void)CheckOptions(options);
  ServerOptions again;
  for (const Option& option : Options()) {
    const std::string text = OptionText(option, options);
    MK_CHECK(SetOption(option, text, again).ok() || text.empty());
    MK_CHECK(OptionText(option, again) == text || text.empty());
  }
  return 0;
}
