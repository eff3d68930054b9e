// megakernel-bench tokenize: speed of the tokenizer on one processor.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/model/hf_tokenizer.h"
#include "engine/model/model.h"
#include "engine/text/tokenizer.h"
#include "tests/bench/arguments.h"
#include "tests/bench/cpu_time.h"
#include "tests/bench/subcommand.h"

namespace megakernel::bench {
namespace {

constexpr char kName[] = "tokenize";
constexpr char kSummary[] =
    "Encodes a text in prompts, on one thread, and prints JSON: bytes, tokens, a hash of the token ids, and megabytes "
    "a\n"
    "second of each round. tests/reference/tokenize_speed.py runs it beside the Hugging Face library on the same text.";
constexpr Option kOptions[] = {
    {"model", "PATH", nullptr, "a model, or a tokenizer.json"},
    {"text", "FILE", nullptr, "what to encode; bytes that are not UTF-8 are encoded, too"},
    {"prompt", "BYTES", "8192", "the text is cut into prompts of so many bytes at most, between characters"},
    {"rounds", "N", "5", "over the whole text, after one that does not count"},
};
constexpr std::int32_t kMaxVocab = 1 << 20;  // of a tokenizer.json without its model

// Either a model, which owns its tokenizer, or a tokenizer alone.
struct Source {
  std::unique_ptr<Model> model;
  std::unique_ptr<Tokenizer> alone;
  const Tokenizer& tokenizer() const { return alone ? *alone : model->tokenizer(); }
};

absl::StatusOr<std::string> ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file.is_open()) return absl::NotFoundError(absl::StrCat(path, ": cannot open"));
  return std::string(std::istreambuf_iterator<char>(file), {});
}

absl::StatusOr<Source> Open(const std::string& path) {
  Source source;
  if (path.ends_with(".json")) {
    const auto text = ReadAll(path);
    if (!text.ok()) return text.status();
    auto read = ParseHfTokenizer(*text, path, kMaxVocab);
    if (!read.ok()) return read.status();
    source.alone = std::move(read->tokenizer);
    return source;
  }
  auto model = LoadModel(path);
  if (!model.ok()) return model.status();
  if (!(*model)->has_tokenizer()) return absl::InvalidArgumentError(absl::StrCat(path, ": there is no tokenizer"));
  source.model = *std::move(model);
  return source;
}

std::vector<std::string_view> Prompts(std::string_view text, std::size_t most) {
  const auto inside = [](char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; };
  std::vector<std::string_view> prompts;
  while (!text.empty()) {
    std::size_t size = std::min(most, text.size());
    for (int back = 0; back < 3 && size > 1 && size < text.size() && inside(text[size]); ++back) --size;
    prompts.push_back(text.substr(0, size));
    text.remove_prefix(size);
  }
  return prompts;
}

nlohmann::ordered_json Measure(const Tokenizer& tokenizer, std::string_view text, std::size_t prompt, int rounds) {
  const std::vector<std::string_view> prompts = Prompts(text, prompt);
  std::uint64_t hash = 0xcbf29ce484222325;  // FNV-1a over whole ids
  std::int64_t tokens = 0;
  std::vector<double> speeds, cpu_speeds;
  for (int round = 0; round <= rounds; ++round) {
    const double cpu = CpuSeconds();
    const auto started = std::chrono::steady_clock::now();
    for (const std::string_view one : prompts) {
      const std::vector<TokenId> ids = tokenizer.Encode(one, /*parse_special=*/false);
      if (round > 0) continue;
      tokens += static_cast<std::int64_t>(ids.size());
      for (const TokenId id : ids) hash = (hash ^ static_cast<std::uint64_t>(id)) * 0x100000001b3;
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
    if (round == 0) continue;
    const double megabytes = static_cast<double>(text.size()) / 1e6;
    speeds.push_back(megabytes / seconds);
    cpu_speeds.push_back(megabytes / (CpuSeconds() - cpu));
  }
  std::sort(speeds.begin(), speeds.end());
  std::sort(cpu_speeds.begin(), cpu_speeds.end());
  return {{"bytes", text.size()},
          {"prompts", prompts.size()},
          {"tokens", tokens},
          {"hash", absl::StrFormat("%016x", hash)},
          {"rounds", rounds},
          {"mb_s_median", speeds[speeds.size() / 2]},
          {"mb_s_best", speeds.back()},
          {"mb_cpu_s_median", cpu_speeds[cpu_speeds.size() / 2]},
          {"mb_cpu_s_best", cpu_speeds.back()}};
}

}  // namespace

int RunTokenize(std::span<const std::string> args) {
  int exit_status = 0;
  const auto parsed = ParseOrHelp(kName, kSummary, args, kOptions, &exit_status);
  if (!parsed) return exit_status;
  const auto fail = [](const absl::Status& status, int exit) {
    std::fprintf(stderr, "megakernel-bench %s: %s\n", kName, std::string(status.message()).c_str());
    return exit;
  };
  const auto prompt = parsed->Int("prompt", 1, 1 << 30);
  if (!prompt.ok()) return fail(prompt.status(), 2);
  const auto rounds = parsed->Int("rounds", 1, 1000);
  if (!rounds.ok()) return fail(rounds.status(), 2);
  const auto text = ReadAll(parsed->Text("text"));
  if (!text.ok()) return fail(text.status(), 1);
  if (text->empty()) return fail(absl::InvalidArgumentError("the text is empty"), 1);
  const auto source = Open(parsed->Text("model"));
  if (!source.ok()) return fail(source.status(), 1);
  const auto result = Measure(source->tokenizer(), *text, static_cast<std::size_t>(*prompt), static_cast<int>(*rounds));
  std::printf("%s\n", result.dump().c_str());
  return 0;
}

}  // namespace megakernel::bench
