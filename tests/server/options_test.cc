// Flags, the JSON file and the help page: what is read, and 40 ways to get it wrong.
#include "server/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "server/command_line.h"
#include "server/option_values.h"

namespace megakernel {
namespace {

using ::testing::HasSubstr;

std::string WriteTemporary(const std::string& text) {
  const std::string path = ::testing::TempDir() + "/server_options_test.json";
  std::ofstream(path) << text;
  return path;
}

std::string Message(const absl::Status& status) {
  return std::string(status.message());
}

TEST(Options, Defaults) {
  const auto line = ParseCommandLine(std::vector<std::string>{"--device", "fake"});
  ASSERT_TRUE(line.ok()) << Message(line.status());
  EXPECT_EQ(line->options.listen, "127.0.0.1:50051");
  EXPECT_EQ(line->options.max_context, 0);
  EXPECT_TRUE(line->options.reflection);
}

TEST(Options, EveryKindOfFlag) {
  const auto line = ParseCommandLine(std::vector<std::string>{
      "--model", "m.gguf", "--device=cpu", "--kv-memory", "1.5GiB", "--max-queue=7", "--threads", "auto",
      "--session-ttl", "1h30m", "--no-reflection", "--log-level", "warn", "--max-queue", "8"});
  ASSERT_TRUE(line.ok()) << Message(line.status());
  EXPECT_EQ(line->options.model_path, "m.gguf");
  EXPECT_EQ(line->options.device, "cpu");
  EXPECT_EQ(line->options.kv_memory, 3LL << 29);
  EXPECT_EQ(line->options.max_queue, 8);  // the last one counts
  EXPECT_EQ(line->options.threads, 0);
  EXPECT_EQ(line->options.session_ttl, absl::Minutes(90));
  EXPECT_FALSE(line->options.reflection);
}

TEST(Options, FlagsWinOverTheFileWhereverTheyStand) {
  const std::string path = WriteTemporary(R"({
    // comments are allowed
    "model": {"path": "file.gguf"},
    "executor": {"kv_memory": "64MiB", "threads": "auto"},
    "limits": {"max_queue": 9, "session_ttl": "30s"},
    "server": {"reflection": false}})");
  const auto line = ParseCommandLine(std::vector<std::string>{"--max-queue", "5", "--config", path});
  ASSERT_TRUE(line.ok()) << Message(line.status());
  EXPECT_EQ(line->options.model_path, "file.gguf");
  EXPECT_EQ(line->options.kv_memory, 64 << 20);
  EXPECT_EQ(line->options.max_queue, 5);
  EXPECT_EQ(line->options.session_ttl, absl::Seconds(30));
  EXPECT_FALSE(line->options.reflection);
}

struct BadFlags {
  std::vector<std::string> arguments;
  std::vector<std::string> named;  // what the message must hold
};

const BadFlags kBadFlags[] = {
    {{}, {"--model"}},
    {{"--modle", "x"}, {"--modle", "did you mean --model"}},
    {{"--max-contxt=5"}, {"--max-contxt", "did you mean --max-context"}},
    {{"--frobnicate"}, {"--frobnicate"}},
    {{"model.gguf"}, {"model.gguf"}},
    {{"--model"}, {"--model", "PATH"}},
    {{"--model", "--device", "cpu"}, {"--model", "PATH"}},
    {{"--model="}, {"--model", "empty"}},
    {{"--device", "tpu"}, {"--device", "tpu", "cuda"}},
    {{"--device", "fake", "--max-queue", "x"}, {"--max-queue", "\"x\"", "whole number"}},
    {{"--device", "fake", "--max-queue", "0"}, {"--max-queue", "[1, 65536]"}},
    {{"--device", "fake", "--max-queue", "65537"}, {"--max-queue", "65537", "[1, 65536]"}},
    {{"--device", "fake", "--max-queue", "1.5"}, {"--max-queue", "1.5"}},
    {{"--device", "fake", "--max-queue", "99999999999999999999"}, {"--max-queue", "out of range"}},
    {{"--device", "fake", "--max-sequences", "129"}, {"--max-sequences", "[1, 128]"}},
    {{"--device", "fake", "--max-context", "1"}, {"--max-context", "auto"}},
    {{"--device", "fake", "--threads", "-1"}, {"--threads", "[1, 1024]"}},
    {{"--device", "fake", "--kv-memory", "lots"}, {"--kv-memory", "lots", "GiB"}},
    {{"--device", "fake", "--kv-memory", "1"}, {"--kv-memory", "64KiB"}},
    {{"--device", "fake", "--kv-memory", "-5GiB"}, {"--kv-memory", "-5GiB"}},
    {{"--device", "fake", "--kv-memory", "nan"}, {"--kv-memory", "nan"}},
    {{"--device", "fake", "--session-ttl", "5"}, {"--session-ttl", "30s"}},
    {{"--device", "fake", "--session-ttl", "10ms"}, {"--session-ttl", "1s"}},
    {{"--device", "fake", "--session-ttl", "inf"}, {"--session-ttl"}},
    {{"--device", "fake", "--log-level", "loud"}, {"--log-level", "loud", "trace"}},
    {{"--device", "fake", "--reflection=maybe"}, {"--reflection", "maybe"}},
    {{"--device", "fake", "--no-model"}, {"--no-model"}},
    {{"--device", "fake", "--listen", "localhost"}, {"--listen", "HOST:PORT"}},
    {{"--device", "fake", "--listen", "localhost:99999"}, {"--listen", "65535"}},
    {{"--device", "fake", "--listen", ":50051"}, {"--listen", "HOST:PORT"}},
    {{"--device", "fake", "--max-rows", "8", "--prompt-rows-busy", "9"}, {"--prompt-rows-busy", "--max-rows"}},
    {{"--device", "fake", "--config", "/nonexistent/x.json"}, {"--config", "/nonexistent/x.json"}},
    {{"--cpu-isa", "sse"}, {"--cpu-isa", "avx2"}},
    {{"--precision", "fp16"}, {"--precision", "fp32"}},
};

TEST(Options, BadFlagsNameTheFlagAndWhatIsAllowed) {
  for (const BadFlags& bad : kBadFlags) {
    const auto line = ParseCommandLine(bad.arguments);
    ASSERT_FALSE(line.ok()) << bad.arguments.back();
    for (const std::string& named : bad.named) EXPECT_THAT(Message(line.status()), HasSubstr(named));
  }
}

struct BadConfig {
  const char* text;
  std::vector<std::string> named;
};

const BadConfig kBadConfigs[] = {
    {"", {"f.json"}},
    {"{\"limits\": ", {"f.json", "line 1"}},
    {"[]", {"f.json", "object"}},
    {R"({"limits": 5})", {"f.json", "limits", "object"}},
    {R"({"limit": {"max_queue": 5}})", {"limit"}},
    {R"({"limits": {"max_queu": 5}})", {"limits.max_queu", "limits.max_queue"}},
    {R"({"executor": {"max_queue": 5}})", {"executor.max_queue", "limits.max_queue"}},
    {R"({"limits": {"max_queue": 5, "max_queue": 6}})", {"max_queue", "twice"}},
    {R"({"limits": {"max_queue": "many"}})", {"limits.max_queue", "many"}},
    {R"({"limits": {"max_queue": 5.5}})", {"limits.max_queue", "5.5"}},
    {R"({"limits": {"max_queue": null}})", {"limits.max_queue", "null"}},
    {R"({"limits": {"max_queue": -1}})", {"limits.max_queue", "[1, 65536]"}},
    {R"({"limits": {"max_queue": 1e99}})", {"limits.max_queue"}},
    {R"({"limits": {"session_ttl": 30}})", {"limits.session_ttl", "quotes"}},
    {R"({"executor": {"device": "gpu"}})", {"executor.device", "cuda"}},
    {R"({"executor": {"device": 3}})", {"executor.device", "string"}},
    {R"({"executor": {"kv_memory": true}})", {"executor.kv_memory", "true"}},
    {R"({"server": {"reflection": "yes"}})", {"server.reflection", "yes"}},
    {R"({"server": {"listen": ""}})", {"server.listen", "empty"}},
};

TEST(Options, BadConfigsNameTheFileAndTheKey) {
  for (const BadConfig& bad : kBadConfigs) {
    ServerOptions options;
    const absl::Status status = ReadConfigText(bad.text, "f.json", options);
    ASSERT_FALSE(status.ok()) << bad.text;
    EXPECT_THAT(Message(status), HasSubstr("f.json")) << bad.text;
    for (const std::string& named : bad.named) EXPECT_THAT(Message(status), HasSubstr(named)) << bad.text;
  }
}

TEST(Options, TheTableIsConsistent) {
  ServerOptions defaults;
  const std::string help = HelpPage();
  for (const Option& option : Options()) {
    SCOPED_TRACE(std::string(option.flag));
    EXPECT_EQ(FindFlag(option.flag), &option);
    EXPECT_THAT(help, HasSubstr((option.kind == OptionKind::kBool ? "--[no-]" : "--") + std::string(option.flag)));
    const std::string text = OptionText(option, defaults);
    ServerOptions options;
    if (!text.empty()) {
      EXPECT_TRUE(SetOption(option, text, options).ok()) << text;
      EXPECT_EQ(OptionText(option, options), text);
    }
  }
}

TEST(Options, ConfigurationsOfTheProjectAreValid) {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(MEGAKERNEL_SOURCE_DIR "/configs/server")) {
    ServerOptions options;
    const absl::Status status = ReadConfigFile(entry.path(), options);
    EXPECT_TRUE(status.ok()) << Message(status);
    ++files;
  }
  EXPECT_GT(files, 0);
}

TEST(OptionValues, Sizes) {
  const std::pair<const char*, std::int64_t> good[] = {
      {"0", 0},           {"65536", 65536},    {"1KiB", 1024}, {"2k", 2048}, {"1.5MiB", 3 << 19},
      {"1 GiB", 1 << 30}, {"1TiB", 1LL << 40}, {"10B", 10}};
  for (const auto& [text, bytes] : good) EXPECT_EQ(ParseSize(text).value_or(-1), bytes) << text;
  for (const char* bad : {"", "GiB", "1.5", "-1", "1XiB", "inf", "1e30TiB", "0x10"}) {
    EXPECT_FALSE(ParseSize(bad).ok()) << bad;
  }
  EXPECT_EQ(FormatSize(3 << 19), "1536KiB");
  EXPECT_EQ(HumanBytes(96'600'000), "96.6 MB");
}

}  // namespace
}  // namespace megakernel
