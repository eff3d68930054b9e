// Prompts of the API to tokens: text, conversations and token ids, at the start of a sequence or at the end of a
// session.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/executor/executor.h"
#include "engine/model/model.h"
#include "megakernel/v1/generation.pb.h"

namespace megakernel {

inline constexpr std::size_t kMaxTextBytes = 4 << 20;

// Immutable; safe to use from many threads. `model` outlives it. Errors are InvalidArgument and name the field below
// `path`, the place of the prompt in the request ("chat", "append.text").
class PromptEncoder {
 public:
  explicit PromptEncoder(const Model& model) : model_(model) {}

  // Whether text at the start of a sequence gets a beginning-of-sequence token.
  bool adds_bos() const;

  // Sizes, roles, and whether the model has a tokenizer or a chat template: everything that needs no look into the
  // text. Cheap.
  absl::Status CheckText(std::string_view text, const std::string& path) const;
  absl::Status CheckChat(const v1::ChatPrompt& chat, const std::string& path) const;

  // REQUIRES: checked. `at_start`: the sequence has no tokens yet, so the model's beginning-of-sequence token comes
  // first where the model wants it.
  std::vector<TokenId> EncodeText(std::string_view text, bool at_start) const;

  // REQUIRES: checked. `history`: the tokens of the session; empty at the start of a sequence.
  absl::StatusOr<std::vector<TokenId>> EncodeChat(const v1::ChatPrompt& chat, std::span<const TokenId> history,
                                                  const std::string& path) const;

  // The conversation as text. REQUIRES: checked.
  absl::StatusOr<std::string> RenderChat(const v1::ChatPrompt& chat, const std::string& path) const;

  // Copies and checks the range of every id.
  absl::StatusOr<std::vector<TokenId>> TakeTokens(const v1::TokenIds& tokens, const std::string& path) const;

 private:
  const Model& model_;
};

}  // namespace megakernel
