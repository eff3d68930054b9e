// Byte-pair tokenizer over characters (SentencePiece's kind, as Llama 2 uses it): spaces are written as U+2581, and
// what the vocabulary has no token for is spelled out in tokens of one byte each.
#pragma once

#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/text/added_tokens.h"
#include "engine/text/tokenizer.h"
#include "engine/text/vocabulary_tokenizer.h"

namespace megakernel {

inline constexpr std::string_view kPieceSpace = "\u2581";

// The longest token that is made by merges, in bytes: bounds the time to find the merges of scored tokens.
inline constexpr std::size_t kMaxPieceBytes = 256;

// Everything such a tokenizer is made from. Views; needed only while Create runs.
struct PieceVocabulary {
  std::vector<std::string_view> tokens;  // by id; kNormal ones with spaces as U+2581; kByte ones <0x00> to <0xFF>
  std::vector<TokenKind> kinds;          // as many as tokens; a kByte for every byte
  // What is merged, one of the two. A list: "left right", the first merges first.
  std::vector<std::string_view> merges = {};
  // Or a score for every token: whatever is a token when joined is merged, the highest score first. Control and byte
  // tokens are never made so.
  std::vector<float> scores = {};
  // A space is put before every text between written-out tokens, at the start, too.
  bool adds_space = true;
  // Decoding a whole sequence leaves out one space at its start.
  bool strips_space = true;
  // As in BpeVocabulary.
  std::vector<std::pair<TokenId, AddedTokenFlags>> flags = {};
};

// Source: Hugging Face tokenizers 0.23, models/bpe with byte_fallback, normalizers Prepend and Replace, decoders
// ByteFallback and Strip; llama.cpp's llm_tokenizer_spm for scores. Two differences are wanted: a run of byte tokens
// that is not UTF-8 gives U+FFFD for what is malformed in it (the library: for each byte of the whole run, which a
// stream could not do), and text never becomes a control token (llama.cpp: where the scores make one).
// InvalidArgument names the token or merge: an empty, repeated or too long token, a byte without a token, a score that
// is not finite, a bad merge.
absl::StatusOr<std::unique_ptr<Tokenizer>> CreatePieceTokenizer(const PieceVocabulary& vocabulary);

// The byte that a token of the form <0x00> to <0xFF> stands for; -1 for other texts.
int ByteOfToken(std::string_view token);

}  // namespace megakernel
