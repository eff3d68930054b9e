#include "engine/text/pre_tokenizer.h"

#include <gtest/gtest.h>

#include <chrono>

#include "tests/engine/text/goldens.h"

namespace megakernel {
namespace {

std::vector<std::string_view> Words(std::string_view rules, std::string_view text) {
  std::vector<std::string_view> words;
  SplitWords(*FindPreTokenizer(rules), text, words);
  return words;
}

// The expressions themselves, run by Oniguruma in the Hugging Face library.
TEST(PreTokenizerTest, WordsAreThoseOfTheExpressions) {
  const nlohmann::json cases = ReadGoldens("words.json");
  ASSERT_GT(cases.size(), 1000u);
  for (const auto& golden : cases) {
    const auto text = golden["text"].get<std::string>();
    const auto expected = golden["words"].get<std::vector<std::string>>();
    const std::vector<std::string_view> words = Words(golden["rules"].get<std::string>(), text);
    ASSERT_EQ(std::vector<std::string>(words.begin(), words.end()), expected)
        << golden["rules"] << " " << testing::PrintToString(text);
  }
}

TEST(PreTokenizerTest, WordsOfAnyBytesAreTheText) {
  for (const char* rules : {"gpt-2", "smollm", "llama-bpe", "qwen2"}) {
    for (int seed = 0; seed < 2000; ++seed) {
      std::string text;
      unsigned state = static_cast<unsigned>(seed) * 2654435761u + 1;
      for (int i = 0; i < 40; ++i) {
        state = state * 1664525u + 1013904223u;
        text += static_cast<char>(state >> 24);
      }
      std::string joined;
      for (const std::string_view word : Words(rules, text)) {
        ASSERT_FALSE(word.empty());
        joined += word;
      }
      ASSERT_EQ(joined, text);
    }
  }
}

// A scanner that backtracks over these takes time in the square of their length: hours.
TEST(PreTokenizerTest, HostileTextTakesLinearTime) {
  for (const char* rules : {"gpt-2", "smollm", "llama-bpe", "qwen2"}) {
    for (const std::string unit : {"a", " ", "\n", "'", "1", "\xCC\x81", " \n", "\xFF", "!", "' "}) {
      std::string text;
      while (text.size() < 4'000'000) text += unit;
      const auto begin = std::chrono::steady_clock::now();
      EXPECT_FALSE(Words(rules, text).empty());
      EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10)) << rules << " " << unit;
    }
  }
}

TEST(PreTokenizerTest, UnknownNames) {
  EXPECT_EQ(FindPreTokenizer("no-such"), nullptr);
  EXPECT_EQ(PreTokenizerNames(), "gpt-2, smollm, llama-bpe, qwen2");
}

}  // namespace
}  // namespace megakernel
