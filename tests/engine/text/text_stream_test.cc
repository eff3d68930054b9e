#include "engine/text/text_stream.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "engine/text/utf8.h"

namespace megakernel {
namespace {

struct Outcome {
  std::string text;
  std::string matched;

  friend bool operator==(const Outcome&, const Outcome&) = default;
};

// By definition: decode all, then find the stop string that ends first, of equals the longest.
Outcome Whole(const std::string& bytes, const std::vector<std::string>& stops, bool include_stop) {
  const std::string text = ToValidUtf8(bytes);
  for (std::size_t end = 1; end <= text.size(); ++end) {
    std::string found;
    for (const std::string& stop : stops) {
      const bool ends_here = stop.size() <= end && text.compare(end - stop.size(), stop.size(), stop) == 0;
      if (ends_here && stop.size() > found.size()) found = stop;
    }
    if (!found.empty()) return {text.substr(0, include_stop ? end : end - found.size()), found};
  }
  return {text, ""};
}

Outcome Streamed(const std::vector<std::string>& pieces, const std::vector<std::string>& stops, bool include_stop) {
  TextStream stream(stops, include_stop);
  Outcome outcome;
  for (const std::string& piece : pieces) {
    std::string shown;
    const bool stopped = stream.Push(piece, shown);
    EXPECT_EQ(ToValidUtf8(shown), shown) << "a character was split";
    outcome.text += shown;
    if (stopped) break;
  }
  stream.Finish(outcome.text);
  outcome.matched = stream.matched_stop();
  return outcome;
}

// All 2^(n-1) ways to cut `bytes` into pieces.
std::vector<std::vector<std::string>> AllSplits(const std::string& bytes) {
  std::vector<std::vector<std::string>> splits;
  for (unsigned cuts = 0; cuts < 1u << (bytes.size() - 1); ++cuts) {
    std::vector<std::string> pieces = {bytes.substr(0, 1)};
    for (std::size_t i = 1; i < bytes.size(); ++i) {
      if ((cuts >> (i - 1)) & 1u) pieces.emplace_back();
      pieces.back() += bytes[i];
    }
    splits.push_back(pieces);
  }
  return splits;
}

TEST(TextStreamTest, EverySplitGivesTheWholeText) {
  const std::vector<std::string> texts = {
      "abcabcd",      "aaab",           "a\xF0\x9F\x98\x80z", "\xE4\xBD\xA0\xE5\xA5\xBD",
      "\xF0\x9F\x98", "x\xFF\xC3\xA9y", "\xE2\x82stop",       "abxabyab"};
  const std::vector<std::vector<std::string>> stop_sets = {
      {},       {"bc"},           {"abcd", "ca"},       {"aab", "ab", "b"},
      {"stop"}, {"\xE5\xA5\xBD"}, {"\xF0\x9F\x98\x80"}, {"aby", "\xEF\xBF\xBD"}};
  int cases = 0;
  for (const std::string& text : texts) {
    for (const auto& stops : stop_sets) {
      for (const bool include_stop : {false, true}) {
        const Outcome whole = Whole(text, stops, include_stop);
        for (const auto& pieces : AllSplits(text)) {
          ASSERT_EQ(Streamed(pieces, stops, include_stop), whole) << text;
          ++cases;
        }
      }
    }
  }
  EXPECT_GT(cases, 5000);
}

TEST(TextStreamTest, RandomBytesAndStops) {
  std::mt19937 random(7);
  const std::vector<std::string> atoms = {"a", "b", "ab", "\xC3\xA9", "\xF0\x9F\x98\x80", "\xE4\xBD", "\xFF", "\n"};
  const auto word = [&](int most) {
    std::string text;
    for (int n = 1 + static_cast<int>(random() % static_cast<unsigned>(most)); n > 0; --n)
      text += atoms[random() % atoms.size()];
    return text;
  };
  int matches = 0;
  for (int round = 0; round < 20000; ++round) {
    const std::string bytes = word(20);
    std::vector<std::string> stops;
    for (unsigned n = random() % 4; n > 0; --n) stops.push_back(ToValidUtf8(word(4)));
    std::vector<std::string> pieces(1);
    for (const char c : bytes) {
      pieces.back() += c;
      if (random() % 2 == 0) pieces.emplace_back();
    }
    const bool include_stop = random() % 2 == 0;
    const Outcome whole = Whole(bytes, stops, include_stop);
    ASSERT_EQ(Streamed(pieces, stops, include_stop), whole);
    matches += !whole.matched.empty();
  }
  EXPECT_GT(matches, 2000);
}

TEST(TextStreamTest, HoldsBackOnlyWhatMayBecomeAStop) {
  TextStream stream({"END"}, false);
  std::string text;
  EXPECT_FALSE(stream.Push("one E", text));
  EXPECT_EQ(text, "one ");
  EXPECT_FALSE(stream.Push("N", text));
  EXPECT_EQ(text, "one ");
  EXPECT_FALSE(stream.Push("T", text));
  EXPECT_EQ(text, "one ENT");
  EXPECT_TRUE(stream.Push("ENDLESS", text));
  EXPECT_EQ(text, "one ENT");
  EXPECT_EQ(stream.matched_stop(), "END");
  stream.Finish(text);
  EXPECT_EQ(text, "one ENT");
}

TEST(TextStreamTest, HoldsAtMostThreeBytesOfACharacter) {
  TextStream stream({}, false);
  std::string text;
  stream.Push("\xF0\x9F\x98", text);
  EXPECT_EQ(text, "");
  stream.Push("\x80", text);
  EXPECT_EQ(text, "\xF0\x9F\x98\x80");
  stream.Push("\xF0\x9F", text);
  stream.Push("x", text);
  EXPECT_EQ(text, "\xF0\x9F\x98\x80\xEF\xBF\xBDx");
  stream.Push("\xE2", text);
  stream.Finish(text);
  EXPECT_EQ(text, "\xF0\x9F\x98\x80\xEF\xBF\xBDx\xEF\xBF\xBD");
}

// A stop string of n equal bytes and one other against a long run of them: quadratic matching would take minutes.
TEST(TextStreamTest, HostileStopStringTakesLinearTime) {
  TextStream stream({std::string(100000, 'a') + "b"}, false);
  std::string text;
  const std::string run(1000, 'a');
  for (int i = 0; i < 2000; ++i) ASSERT_FALSE(stream.Push(run, text));
  EXPECT_EQ(text.size(), 1900000u);
  EXPECT_TRUE(stream.Push("b", text));
  EXPECT_EQ(text.size(), 1900000u);
}

}  // namespace
}  // namespace megakernel
