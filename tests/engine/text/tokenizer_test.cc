// The real tokenizer of the test model against the Hugging Face tokenizers library.
#include "engine/text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>

#include "engine/model/model.h"
#include "engine/text/chat_template.h"
#include "tests/engine/text/goldens.h"

namespace megakernel {
namespace {

class TokenizerTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    auto model = LoadModel(TestModelPath());
    ASSERT_TRUE(model.ok()) << model.status();
    model_ = *std::move(model);
  }
  static void TearDownTestSuite() { model_.reset(); }

  const Tokenizer& tokenizer() const { return model_->tokenizer(); }

  static std::unique_ptr<Model> model_;
};

std::unique_ptr<Model> TokenizerTest::model_;

TEST_F(TokenizerTest, TokensAreThoseOfTheReference) {
  const nlohmann::json cases = ReadGoldens("tokens.json");
  ASSERT_GT(cases.size(), 300u);
  for (const auto& golden : cases) {
    const auto text = golden["text"].get<std::string>();
    const auto special = golden["special"].get<std::vector<TokenId>>();
    ASSERT_EQ(tokenizer().Encode(text, /*parse_special=*/true), special) << testing::PrintToString(text);
    ASSERT_EQ(tokenizer().Encode(text, /*parse_special=*/false), golden["plain"].get<std::vector<TokenId>>())
        << testing::PrintToString(text);
    ASSERT_EQ(tokenizer().Decode(special, /*skip_special=*/true), golden["decoded"].get<std::string>());
  }
}

TEST_F(TokenizerTest, ChatPromptOfTheModel) {
  ASSERT_NE(model_->chat_template(), nullptr);
  const auto prompt = model_->chat_template()->Render({{"user", "Hi"}}, /*add_generation_prompt=*/true);
  ASSERT_TRUE(prompt.ok()) << prompt.status();
  EXPECT_EQ(*prompt,
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
  const std::vector<TokenId> tokens = tokenizer().Encode(*prompt, /*parse_special=*/true);
  EXPECT_EQ(tokens.front(), model_->config().bos_token);
  EXPECT_EQ(std::count(tokens.begin(), tokens.end(), model_->config().eos_tokens.front()), 2);
}

// Every byte that the vocabulary has a token for comes back, malformed or not.
TEST_F(TokenizerTest, BytesComeBack) {
  std::string bytes;
  for (int b = 0; b < 256; ++b) {
    const std::string one(1, static_cast<char>(b));
    if (!tokenizer().Encode(one, false).empty()) bytes += one;
  }
  EXPECT_EQ(bytes.size(), 235u) << "SmolLM2 has no token for 21 bytes";
  std::string back;
  for (const TokenId token : tokenizer().Encode(bytes, false)) back += tokenizer().TokenBytes(token, false);
  EXPECT_EQ(back, bytes);
}

// One megabyte of one thing: quadratic merging or matching would take hours.
TEST_F(TokenizerTest, HostileTextTakesLinearTime) {
  for (const std::string unit : {"a", " ", "<", "<|im_start", "1", "\xCC\x81", "\xFF", "ab", "\n"}) {
    std::string text;
    while (text.size() < 1'000'000) text += unit;
    const auto begin = std::chrono::steady_clock::now();
    tokenizer().Encode(text, true);
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10)) << unit;
  }
}

}  // namespace
}  // namespace megakernel
