// Text to compare tokenizers on, made from numbers; tests/reference/corpus.py makes the same and says how.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/text/tokenizer.h"

namespace megakernel {

// SplitMix64.
class CorpusRandom {
 public:
  explicit CorpusRandom(std::uint64_t seed) : state_(seed) {}
  std::uint64_t Below(std::uint64_t n);

 private:
  std::uint64_t state_;
};

class Corpus {
 public:
  // `num_tokens`: of the tokenizer's tokens, the first; `added`: the texts of added tokens.
  Corpus(const nlohmann::json& material, const Tokenizer& tokenizer, std::int32_t num_tokens,
         std::vector<std::string> added)
      : material_(material), tokenizer_(tokenizer), num_tokens_(num_tokens), added_(std::move(added)) {}

  // Valid UTF-8 of about 12,500 bytes.
  std::string Piece(std::uint64_t number) const;

 private:
  std::string Part(std::uint64_t kind, CorpusRandom& random) const;
  std::string Text(const char* list, CorpusRandom& random) const;
  std::string Character(const char* ranges, CorpusRandom& random) const;
  std::string Script(CorpusRandom& random) const;
  std::string Added(CorpusRandom& random) const;

  const nlohmann::json& material_;
  const Tokenizer& tokenizer_;
  std::int32_t num_tokens_;
  std::vector<std::string> added_;
};

// FNV-1a over whole values; chars count as bytes.
template <class Values>
std::uint64_t Fnv(const Values& values) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const auto value : values) {
    const auto whole = sizeof(value) == 1 ? static_cast<std::uint8_t>(value) : static_cast<std::uint64_t>(value);
    hash = (hash ^ whole) * 0x100000001b3;
  }
  return hash;
}

}  // namespace megakernel
