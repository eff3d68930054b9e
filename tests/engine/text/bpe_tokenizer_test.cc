#include "engine/text/bpe_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace megakernel {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

BpeVocabulary Small() {
  return {.tokens = {"a", "b", "c", "ab", "abc", "bc", "<s>", "<s>a", "aa"},
          .kinds = {TokenKind::kNormal, TokenKind::kNormal, TokenKind::kNormal, TokenKind::kNormal, TokenKind::kNormal,
                    TokenKind::kNormal, TokenKind::kControl, TokenKind::kUserDefined, TokenKind::kNormal},
          .merges = {"a b", "b c", "ab c", "a a"},
          .rules = {}};
}

std::unique_ptr<Tokenizer> Make(const BpeVocabulary& vocabulary) {
  auto tokenizer = CreateBpeTokenizer(vocabulary);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
}

TEST(BpeTokenizerTest, MergesByRankThenFromTheLeft) {
  const auto tokenizer = Make(Small());
  EXPECT_THAT(tokenizer->Encode("abc", true), ElementsAre(4));
  EXPECT_THAT(tokenizer->Encode("bc", true), ElementsAre(5));
  EXPECT_THAT(tokenizer->Encode("aaa", true), ElementsAre(8, 0));
  EXPECT_THAT(tokenizer->Encode("aab", true), ElementsAre(0, 3));  // "a b" ranks before "a a"
  EXPECT_THAT(tokenizer->Encode("", true), ElementsAre());
}

TEST(BpeTokenizerTest, ControlTokensOnlyOnRequestUserDefinedAlways) {
  const auto tokenizer = Make(Small());
  EXPECT_THAT(tokenizer->Encode("b<s>b", true), ElementsAre(1, 6, 1));
  EXPECT_THAT(tokenizer->Encode("b<s>b", false), ElementsAre(1, 1));  // '<', 's' and '>' have no token here
  EXPECT_THAT(tokenizer->Encode("b<s>a", true), ElementsAre(1, 7)) << "the longest wins";
  EXPECT_THAT(tokenizer->Encode("b<s>a", false), ElementsAre(1, 7));
}

TEST(BpeTokenizerTest, BytesWithoutATokenAreLeftOut) {
  EXPECT_THAT(Make(Small())->Encode("azb", true), ElementsAre(3)) << "and their neighbours meet";
}

TEST(BpeTokenizerTest, BytesOfTokens) {
  BpeVocabulary vocabulary = Small();
  vocabulary.tokens.push_back("\xC4\xA0\xC3\xA9");  // the alphabet's space, then the byte 0xE9
  vocabulary.kinds.push_back(TokenKind::kNormal);
  vocabulary.tokens.push_back("\xE4\xBD\xA0");  // outside the alphabet
  vocabulary.kinds.push_back(TokenKind::kNormal);
  const auto tokenizer = Make(vocabulary);
  EXPECT_EQ(tokenizer->TokenBytes(9, true), " \xE9");
  EXPECT_EQ(tokenizer->TokenBytes(10, true), "\xE4\xBD\xA0");
  EXPECT_EQ(tokenizer->TokenBytes(6, true), "");
  EXPECT_EQ(tokenizer->TokenBytes(6, false), "<s>");
  EXPECT_TRUE(tokenizer->IsSpecial(6));
  EXPECT_FALSE(tokenizer->IsSpecial(7));
  EXPECT_EQ(tokenizer->vocab(), 11);
  EXPECT_EQ(tokenizer->Decode({6, 4, 9}, true), "abc \xEF\xBF\xBD");
}

TEST(BpeTokenizerTest, WholeWordsComeBeforeMerges) {
  BpeVocabulary vocabulary = Small();
  vocabulary.merges = {"b c", "a b"};  // no way from "abc" to its token by merges
  EXPECT_THAT(Make(vocabulary)->Encode("abc", true), ElementsAre(0, 5));
  vocabulary.rules.whole_words = true;
  EXPECT_THAT(Make(vocabulary)->Encode("abc", true), ElementsAre(4));
}

struct BadVocabulary {
  const char* name;
  void (*spoil)(BpeVocabulary&);
  const char* message;
};

class BadVocabularyTest : public testing::TestWithParam<BadVocabulary> {};

TEST_P(BadVocabularyTest, IsRefusedByName) {
  BpeVocabulary vocabulary = Small();
  GetParam().spoil(vocabulary);
  const auto tokenizer = CreateBpeTokenizer(vocabulary);
  ASSERT_FALSE(tokenizer.ok());
  EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(tokenizer.status().message()), HasSubstr(GetParam().message));
}

std::string LongToken() {
  return std::string(kMaxSpecialTokenBytes + 1, 'x');
}

INSTANTIATE_TEST_SUITE_P(
    Cases, BadVocabularyTest,
    testing::Values(
        BadVocabulary{"EmptyToken", [](BpeVocabulary& v) { v.tokens[2] = ""; }, "token 2 is empty"},
        BadVocabulary{"Repeated", [](BpeVocabulary& v) { v.tokens[5] = "a"; }, "token 5 repeats token 0, \"a\""},
        BadVocabulary{"Kinds", [](BpeVocabulary& v) { v.kinds.pop_back(); }, "8 token types for 9 tokens"},
        BadVocabulary{"SpaceWithRstrip",
                      [](BpeVocabulary& v) {
                        v.tokens[6] = " s";
                        v.flags = {{6, {.rstrip = true}}};
                      },
                      "token 6 begins with white space and has the flag rstrip"},
        BadVocabulary{"NoSpace", [](BpeVocabulary& v) { v.merges[1] = "bc"; }, "merge 1 \"bc\" is not two tokens"},
        BadVocabulary{"TwoSpaces", [](BpeVocabulary& v) { v.merges[1] = "b c d"; }, "merge 1 \"b c d\" is not two"},
        BadVocabulary{"NoLeft", [](BpeVocabulary& v) { v.merges[0] = "q b"; }, "merge 0 \"q b\" joins something"},
        BadVocabulary{"NoResult", [](BpeVocabulary& v) { v.merges[3] = "c c"; }, "merge 3 \"c c\" makes a token"},
        BadVocabulary{"Twice", [](BpeVocabulary& v) { v.merges[3] = "a b"; }, "merge 3 \"a b\" appears twice"},
        BadVocabulary{"LongSpecial",
                      [](BpeVocabulary& v) {
                        static const std::string token = LongToken();
                        v.tokens[6] = token;
                      },
                      "special token 6 has 257 bytes (at most 256)"}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace megakernel
