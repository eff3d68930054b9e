#include "tests/engine/text/corpus.h"

#include "engine/text/utf8.h"

namespace megakernel {
namespace {

constexpr std::size_t kPieceBytes = 12500;

std::string Repeat(const std::string& one, std::uint64_t count) {
  std::string text;
  for (std::uint64_t i = 0; i < count; ++i) text += one;
  return text;
}

}  // namespace

std::uint64_t CorpusRandom::Below(std::uint64_t n) {
  state_ += 0x9e3779b97f4a7c15;
  std::uint64_t z = state_;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return (z ^ (z >> 31)) % n;
}

std::string Corpus::Text(const char* list, CorpusRandom& random) const {
  const nlohmann::json& texts = material_[list];
  return texts[random.Below(texts.size())].get<std::string>();
}

std::string Corpus::Character(const char* ranges, CorpusRandom& random) const {
  const nlohmann::json& range = material_[ranges][random.Below(material_[ranges].size())];
  const auto first = range[0].get<std::uint32_t>(), last = range[1].get<std::uint32_t>();
  std::string text;
  AppendCodePoint(first + static_cast<std::uint32_t>(random.Below(last - first + 1)), text);
  return text;
}

std::string Corpus::Script(CorpusRandom& random) const {
  const nlohmann::json& range = material_["scripts"][random.Below(material_["scripts"].size())];
  const auto first = range[0].get<std::uint32_t>(), last = range[1].get<std::uint32_t>();
  std::string text;
  const std::uint64_t count = 1 + random.Below(8);
  for (std::uint64_t i = 0; i < count; ++i) {
    AppendCodePoint(first + static_cast<std::uint32_t>(random.Below(last - first + 1)), text);
  }
  return text + (random.Below(16) == 0 ? "\n" : " ");
}

std::string Corpus::Added(CorpusRandom& random) const {
  const std::string& text = added_[random.Below(added_.size())];
  const std::string before = random.Below(2) != 0 ? Text("spaces", random) : "";
  const std::string after = random.Below(2) != 0 ? Text("spaces", random) : "";
  return before + text + after + (random.Below(2) != 0 ? Text("words", random) : "");
}

std::string Corpus::Part(std::uint64_t kind, CorpusRandom& random) const {
  switch (kind) {
    case 0: {
      const auto token = random.Below(static_cast<std::uint64_t>(num_tokens_));
      return std::string(tokenizer_.TokenBytes(static_cast<TokenId>(token), /*skip_special=*/false));
    }
    case 1:
      return Script(random);
    case 2:
      return Text("code", random);
    case 3: {
      const std::string number = random.Below(8) == 0 ? std::to_string(random.Below(1000000)) : "";
      const std::string word = Text("words", random);
      return word + number + Text("marks", random);
    }
    case 4:
      return Character("emoji", random);
    case 5:
      return Character("combining", random);
    case 6: {
      const std::string space = Text("spaces", random);
      const std::string spaces = Repeat(space, 1 + random.Below(4));
      return spaces + (random.Below(3) == 0 ? Text("words", random) : "");
    }
    case 7: {
      const std::string one = random.Below(2) != 0 ? Character("runs", random) : Text("spaces", random);
      return Repeat(one, 1 + random.Below(3000));
    }
    case 8:
      return std::string(1, static_cast<char>(random.Below(256)));
    default:
      return Added(random);
  }
}

std::string Corpus::Piece(std::uint64_t number) const {
  CorpusRandom random(number);
  std::string bytes;
  while (bytes.size() < kPieceBytes) bytes += Part(number % 10, random);
  return ToValidUtf8(bytes);
}

}  // namespace megakernel
