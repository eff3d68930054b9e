// Whole token streams over 5 MB of made text against the Hugging Face tokenizers library, as hashes
// (tests/reference/tokenizer_goldens.py, piece_goldens.py); pieces with scores against llama.cpp.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <memory>
#include <span>

#include "absl/strings/str_format.h"
#include "engine/model/gguf_file.h"
#include "engine/model/gguf_tokenizer.h"
#include "engine/model/hf_tokenizer.h"
#include "engine/model/model.h"
#include "tests/engine/text/corpus.h"
#include "tests/engine/text/goldens.h"

namespace megakernel {
namespace {

constexpr std::int32_t kPublishedVocab = 151936;  // of Qwen3's embedding
constexpr std::size_t kMinBytes = 5'000'000;

std::string Hex(std::uint64_t hash) {
  return absl::StrFormat("%016x", hash);
}

std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

void ExpectIdentical(const std::string& name, const Tokenizer& tokenizer) {
  const nlohmann::json goldens = ReadGoldens("tokenizers/" + name + ".json");
  const nlohmann::json material = ReadGoldens("corpus.json");
  const Corpus corpus(material, tokenizer, goldens["tokens"].get<std::int32_t>(),
                      goldens["added"].get<std::vector<std::string>>());
  std::size_t bytes = 0, tokens = 0, differing = 0;
  for (std::size_t i = 0; i < goldens["pieces"].size(); ++i) {
    const nlohmann::json& golden = goldens["pieces"][i];
    const std::string text = corpus.Piece(i);
    ASSERT_EQ(text.size(), golden[0].get<std::size_t>()) << "the corpus itself differs in piece " << i;
    const std::vector<TokenId> special = tokenizer.Encode(text, /*parse_special=*/true);
    const std::vector<TokenId> plain = tokenizer.Encode(text, /*parse_special=*/false);
    const bool same = special.size() == golden[1].get<std::size_t>() && Hex(Fnv(special)) == golden[2] &&
                      Hex(Fnv(plain)) == golden[3] &&
                      Hex(Fnv(tokenizer.Decode(special, /*skip_special=*/true))) == golden[4];
    EXPECT_TRUE(same) << name << ": piece " << i << " of kind " << i % 10 << " differs";
    differing += !same;
    bytes += text.size();
    tokens += special.size();
  }
  EXPECT_GT(bytes, kMinBytes);
  std::printf("%s: %zu bytes, %zu tokens, %zu of %zu pieces differ\n", name.c_str(), bytes, tokens, differing,
              goldens["pieces"].size());
}

TEST(TokenizerIdentityTest, Qwen3) {
  const char* path = std::getenv("MEGAKERNEL_TEST_TOKENIZER");
  ASSERT_NE(path, nullptr) << "MEGAKERNEL_TEST_TOKENIZER names Qwen3's tokenizer.json";
  const auto read = ParseHfTokenizer(ReadAll(path), path, kPublishedVocab);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->first_token, -1);
  ExpectIdentical("qwen3", *read->tokenizer);
}

TEST(TokenizerIdentityTest, SmolLm2) {
  const auto model = LoadModel(TestModelPath());
  ASSERT_TRUE(model.ok()) << model.status();
  ExpectIdentical("smollm2", (*model)->tokenizer());
}

class MadeTokenizerTest : public testing::TestWithParam<const char*> {};

TEST_P(MadeTokenizerTest, Identical) {
  const std::string path = std::string(MEGAKERNEL_TEXT_GOLDENS) + "/tokenizers/" + GetParam() + ".tokenizer.json";
  const auto read = ParseHfTokenizer(ReadAll(path), path, 1000);
  ASSERT_TRUE(read.ok()) << read.status();
  ExpectIdentical(GetParam(), *read->tokenizer);
}

INSTANTIATE_TEST_SUITE_P(Rules, MadeTokenizerTest,
                         testing::Values("made_llama3", "made_nfc", "made_pieces", "made_spans"));

TEST(TokenizerIdentityTest, ScoredPieces) {
  const std::string path = std::string(MEGAKERNEL_TEXT_GOLDENS) + "/tokenizers/made_scores.gguf";
  const std::string bytes = ReadAll(path);
  const auto file = GgufFile::Parse(std::as_bytes(std::span(bytes)), path);
  ASSERT_TRUE(file.ok()) << file.status();
  const auto tokenizer = ReadGgufTokenizer(*file);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  ExpectIdentical("made_scores", **tokenizer);
}

}  // namespace
}  // namespace megakernel
