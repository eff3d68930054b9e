#include "engine/text/added_tokens.h"

#include <algorithm>

#include "engine/text/utf8.h"

namespace megakernel {
namespace {

// Where the character begins that ends before `end`; a byte that is no UTF-8 is a character. REQUIRES: end > 0.
std::size_t CharacterBefore(std::string_view text, std::size_t end) {
  std::size_t begin = end - 1;
  while (begin > 0 && end - begin < 4 && (text[begin] & 0xc0) == 0x80) --begin;
  const CodePoint c = DecodeCodePoint(text, begin);
  return c.value != CodePoint::kInvalid && begin + c.bytes == end ? begin : end - 1;
}

bool InsideWord(std::string_view text, std::size_t begin, std::size_t end) {
  if (begin > 0 && IsWordCharacter(DecodeCodePoint(text, CharacterBefore(text, begin)).value)) return true;
  return end < text.size() && IsWordCharacter(DecodeCodePoint(text, end).value);
}

std::size_t SpacesBefore(std::string_view text, std::size_t end, std::size_t limit) {
  while (end > limit) {
    const std::size_t begin = CharacterBefore(text, end);
    if (ClassOf(DecodeCodePoint(text, begin).value) != CharClass::kSpace) break;
    end = begin;
  }
  return std::max(end, limit);
}

std::size_t SpacesAfter(std::string_view text, std::size_t begin) {
  while (begin < text.size()) {
    const CodePoint c = DecodeCodePoint(text, begin);
    if (ClassOf(c.value) != CharClass::kSpace) break;
    begin += c.bytes;
  }
  return begin;
}

}  // namespace

void AddedTokens::Add(TokenId token, std::string_view text, AddedTokenFlags flags) {
  tries_[flags.normalized].Add(text, token);
  flags_.emplace(token, flags);
}

void AddedTokens::Split(std::string_view text, bool normalized, bool parse_special, std::vector<Piece>& pieces) const {
  const TokenTrie& trie = tries_[normalized];
  std::size_t done = 0;  // all before it is in `pieces`
  for (std::size_t i = 0; i < text.size();) {
    const TokenTrie::Match match = trie.Longest(text, i);
    if (match.token < 0) {
      ++i;
      continue;
    }
    std::size_t begin = i;
    std::size_t end = i + match.bytes;
    i = end;
    const AddedTokenFlags flags = flags_.at(match.token);
    if (flags.special && !parse_special) continue;
    if (flags.single_word && InsideWord(text, begin, end)) continue;
    // Space that the token before has taken stays taken.
    if (flags.lstrip) begin = SpacesBefore(text, begin, std::min(begin, done));
    if (flags.rstrip) end = SpacesAfter(text, end);
    if (done < begin) pieces.push_back({-1, text.substr(done, begin - done)});
    pieces.push_back({match.token, {}});
    done = end;
  }
  if (done < text.size()) pieces.push_back({-1, text.substr(done)});
}

}  // namespace megakernel
