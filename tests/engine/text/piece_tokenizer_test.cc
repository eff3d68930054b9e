// Piece tokenizers: how text becomes tokens, streams against whole texts, time on hostile text, and refusals. Whole
// token streams are compared in tokenizer_identity_test.cc.
#include "engine/text/piece_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ctime>
#include <deque>
#include <functional>
#include <limits>
#include <string>

#include "absl/strings/str_format.h"
#include "engine/text/text_stream.h"
#include "engine/text/utf8.h"

namespace megakernel {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr TokenId kFirstByte = 3;
constexpr TokenId kFirstPiece = kFirstByte + 256;

// <unk>, <s>, </s>, the bytes, then `pieces`.
struct Vocabulary {
  explicit Vocabulary(const std::vector<std::string>& pieces) {
    for (const char* token : {"<unk>", "<s>", "</s>"}) Add(token, TokenKind::kControl);
    for (int byte = 0; byte < 256; ++byte) Add(absl::StrFormat("<0x%02X>", byte), TokenKind::kByte);
    for (const std::string& piece : pieces) Add(piece, TokenKind::kNormal);
  }
  void Add(const std::string& token, TokenKind kind) {
    view.tokens.push_back(texts.emplace_back(token));
    view.kinds.push_back(kind);
  }

  std::deque<std::string> texts;
  PieceVocabulary view;
};

std::unique_ptr<Tokenizer> Make(const PieceVocabulary& vocabulary) {
  auto tokenizer = CreatePieceTokenizer(vocabulary);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
}

const std::vector<std::string> kPieces = {"▁", "a", "b", "ab", "▁a", "▁▁", "é", "▁▁▁▁", "aa", "aaaa"};
const std::vector<std::string_view> kMerges = {"a b", "▁ a", "▁ ▁", "▁▁ ▁▁", "a a", "aa aa"};
constexpr TokenId kSpace = kFirstPiece, kA = kFirstPiece + 1, kB = kFirstPiece + 2, kAb = kFirstPiece + 3,
                  kSpaceA = kFirstPiece + 4, kTwoSpaces = kFirstPiece + 5, kAcute = kFirstPiece + 6;

std::unique_ptr<Tokenizer> MakeMerging() {
  Vocabulary vocabulary(kPieces);
  vocabulary.view.merges = kMerges;
  return Make(vocabulary.view);
}

// The same pieces with scores that fall with the id.
std::unique_ptr<Tokenizer> MakeScoring() {
  Vocabulary vocabulary(kPieces);
  for (std::size_t i = 0; i < vocabulary.view.tokens.size(); ++i)
    vocabulary.view.scores.push_back(-static_cast<float>(i));
  return Make(vocabulary.view);
}

TEST(PieceTokenizerTest, SpacesBytesAndMerges) {
  const auto tokenizer = MakeMerging();
  EXPECT_THAT(tokenizer->Encode("ab", false), ElementsAre(kSpace, kAb));
  EXPECT_THAT(tokenizer->Encode("aé b", false), ElementsAre(kSpaceA, kAcute, kSpace, kB));
  EXPECT_THAT(tokenizer->Encode(" b", false), ElementsAre(kTwoSpaces, kB));
  EXPECT_THAT(tokenizer->Encode("", false), ElementsAre());
  EXPECT_THAT(tokenizer->Encode("</s>b", true), ElementsAre(2, kSpace, kB));
  EXPECT_THAT(tokenizer->Encode("\u00ea\n", false),
              ElementsAre(kSpace, kFirstByte + 0xc3, kFirstByte + 0xaa, kFirstByte + 0x0a));
  EXPECT_THAT(tokenizer->Encode("a\xff", false), ElementsAre(kSpaceA, kFirstByte + 0xff)) << "malformed";
  EXPECT_EQ(tokenizer->Decode({kSpaceA, kTwoSpaces, kB, kFirstByte + 0x0a}, false), "a  b\n");
  EXPECT_EQ(tokenizer->Decode({1, kSpaceA}, /*skip_special=*/true), "a");
  EXPECT_EQ(tokenizer->Decode({1, kSpaceA}, /*skip_special=*/false), "<s> a");
  EXPECT_EQ(tokenizer->TokenBytes(kSpaceA, false), " a") << "what goes on after something keeps its space";
}

TEST(PieceTokenizerTest, ScoresDecideAndPartsAreSpelledOut) {
  EXPECT_THAT(MakeScoring()->Encode("ab", false), ElementsAre(kSpace, kAb)) << "ab has a higher score than ▁a";
  // "x" is no token, but "xy" is: alone it is a byte.
  Vocabulary vocabulary({"▁", "y", "xy", "</"});
  vocabulary.Add("s>", TokenKind::kNormal);
  vocabulary.view.scores.assign(vocabulary.view.tokens.size(), 0);
  const auto tokenizer = Make(vocabulary.view);
  EXPECT_THAT(tokenizer->Encode("xyx", false), ElementsAre(kSpace, kFirstPiece + 2, kFirstByte + 'x'));
  EXPECT_THAT(tokenizer->Encode("</s>", false), ElementsAre(kSpace, kFirstPiece + 3, kFirstPiece + 4))
      << "text is never a control token";
}

TEST(PieceTokenizerTest, EveryCutOfAStreamGivesTheWholeText) {
  const auto tokenizer = MakeMerging();
  for (const std::string text : {"ab a  b", "é😀é \n\ttab", "👨‍👩‍👧 aa", "    aaaa b"}) {
    const std::vector<TokenId> ids = tokenizer->Encode(text, false);
    ASSERT_EQ(tokenizer->Decode(ids, false), text);
    for (std::size_t cut = 0; cut <= ids.size(); ++cut) {
      // Each side in one push, and token by token: what was pushed makes the same bytes.
      std::string first, second;
      for (std::size_t i = 0; i < ids.size(); ++i) (i < cut ? first : second) += tokenizer->TokenBytes(ids[i], false);
      TextStream halves({}, false), single({}, false);
      std::string by_halves, by_tokens;
      halves.Push(first, by_halves);
      halves.Push(second, by_halves);
      halves.Finish(by_halves);
      for (const TokenId id : ids) {
        single.Push(tokenizer->TokenBytes(id, false), by_tokens);
        ASSERT_EQ(ToValidUtf8(by_tokens), by_tokens) << "a character was split";
      }
      single.Finish(by_tokens);
      ASSERT_EQ(by_halves, " " + text);
      ASSERT_EQ(by_tokens, " " + text);
    }
  }
}

// Quadratic work on these would take minutes.
TEST(PieceTokenizerTest, HostileTextTakesLinearTime) {
  constexpr std::size_t kMegabyte = 1 << 20;
  std::string marks;
  while (marks.size() < kMegabyte) marks += "\u0301";
  const auto merging = MakeMerging(), scoring = MakeScoring();
  for (const std::string& text : {std::string(kMegabyte, 'a'), std::string(kMegabyte, ' '), marks}) {
    for (const auto* tokenizer : {&merging, &scoring}) {
      const std::clock_t start = std::clock();
      const std::vector<TokenId> ids = (*tokenizer)->Encode(text, true);
      EXPECT_EQ((*tokenizer)->Decode(ids, false), text);
      EXPECT_LT(static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC, 20.0);
    }
  }
}

struct BadVocabulary {
  const char* name;
  std::function<void(Vocabulary&)> spoil;
  const char* says;
};

const BadVocabulary kBadVocabularies[] = {
    {"kinds", [](auto& v) { v.view.kinds.pop_back(); }, "265 token types for 266 tokens"},
    {"empty", [](auto& v) { v.Add("", TokenKind::kNormal); }, "token 266 is empty"},
    {"repeated", [](auto& v) { v.Add("a", TokenKind::kNormal); }, "token 266 repeats token 260, \"a\""},
    {"byte_text", [](auto& v) { v.Add("<0x1G>", TokenKind::kByte); }, "is not <0x00> to <0xFF>"},
    {"byte_missing", [](auto& v) { v.view.kinds[kFirstByte + 65] = TokenKind::kNormal; }, "no token for byte 65"},
    {"long", [](auto& v) { v.Add(std::string(257, 'x'), TokenKind::kNormal); }, "has 257 bytes (at most 256)"},
    {"merge_unknown", [](auto& v) { v.view.merges = {"a z"}; }, "merge 0 \"a z\" joins something"},
    {"merge_result", [](auto& v) { v.view.merges = {"b a"}; }, "makes a token that is not in the vocabulary"},
    {"merge_form", [](auto& v) { v.view.merges = {"ab"}; }, "is not two tokens"},
    {"merge_twice",
     [](auto& v) {
       v.view.merges = {"a b", "a b"};
     },
     "merge 1 \"a b\" appears twice"},
    {"scores_few", [](auto& v) { v.view.scores = {1.0f}; }, "1 scores for 266 tokens"},
    {"score_nan",
     [](auto& v) {
       v.view.scores.assign(266, 0);
       v.view.scores[7] = std::numeric_limits<float>::quiet_NaN();
     },
     "the score of token 7 is not finite"},
    {"special_long", [](auto& v) { v.Add(std::string(257, 'x'), TokenKind::kControl); }, "special token 266 has 257"},
};

TEST(PieceTokenizerTest, BadVocabulariesAreRefusedByName) {
  for (const BadVocabulary& bad : kBadVocabularies) {
    SCOPED_TRACE(bad.name);
    Vocabulary vocabulary({"▁", "a", "b", "ab", "▁a", "▁▁", "é"});
    bad.spoil(vocabulary);
    const auto tokenizer = CreatePieceTokenizer(vocabulary.view);
    EXPECT_TRUE(absl::IsInvalidArgument(tokenizer.status()));
    EXPECT_THAT(std::string(tokenizer.status().message()), HasSubstr(bad.says));
  }
}

}  // namespace
}  // namespace megakernel
