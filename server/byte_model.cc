#include "server/byte_model.h"

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/text/chat_template.h"
#include "engine/text/tokenizer.h"

namespace megakernel {
namespace {

constexpr std::string_view kSpecials[kByteModelFirstByte] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};

class ByteTokenizer final : public Tokenizer {
 public:
  ByteTokenizer() {
    for (std::string_view special : kSpecials) bytes_.emplace_back(special);
    for (int byte = 0; byte < 256; ++byte) bytes_.emplace_back(1, static_cast<char>(byte));
    constexpr std::string_view kConsonants = "bdfgklmnprstvz";
    constexpr std::string_view kVowels = "aeiou";
    for (std::size_t i = 0; bytes_.size() < kByteModelVocab; ++i) {  // " ba", " be", ... " bab", ...
      std::string word = {' ', kConsonants[i / kVowels.size() % kConsonants.size()], kVowels[i % kVowels.size()]};
      if (const std::size_t third = i / (kVowels.size() * kConsonants.size()); third > 0) {
        word.push_back(kConsonants[third - 1]);
      }
      bytes_.push_back(word);
    }
  }

  std::vector<TokenId> Encode(std::string_view text, bool parse_special) const override {
    std::vector<TokenId> tokens;
    tokens.reserve(text.size());
    while (!text.empty()) {
      const TokenId special = parse_special ? SpecialAtFront(text) : -1;
      tokens.push_back(special >= 0 ? special : kByteModelFirstByte + static_cast<std::uint8_t>(text.front()));
      text.remove_prefix(special >= 0 ? kSpecials[special].size() : 1);
    }
    return tokens;
  }

  std::string_view TokenBytes(TokenId token, bool skip_special) const override {
    if (skip_special && IsSpecial(token)) return {};
    return bytes_[static_cast<std::size_t>(token)];
  }

  bool IsSpecial(TokenId token) const override { return token < kByteModelFirstByte; }
  std::int32_t vocab() const override { return kByteModelVocab; }

 private:
  static TokenId SpecialAtFront(std::string_view text) {
    for (TokenId token = 0; token < kByteModelFirstByte; ++token) {
      if (text.starts_with(kSpecials[token])) return token;
    }
    return -1;
  }

  std::vector<std::string> bytes_;
};

class ChatMlTemplate final : public ChatTemplate {
 public:
  absl::StatusOr<std::string> Render(const std::vector<ChatMessage>& messages,
                                     const ChatOptions& options) const override {
    if (options.continue_final_message || !options.tools.empty() || !options.arguments.empty()) {
      return absl::InvalidArgumentError("the byte model's template knows add_generation_prompt only");
    }
    std::string text;
    for (std::size_t i = 0; i < messages.size(); ++i) {
      const ChatMessage& message = messages[i];
      if (message.role != "system" && message.role != "user" && message.role != "assistant") {
        return absl::InvalidArgumentError(absl::StrCat("message ", i, " has the unknown role \"", message.role, "\""));
      }
      absl::StrAppend(&text, "<|im_start|>", message.role, "\n", message.content, "<|im_end|>\n");
    }
    if (options.add_generation_prompt) text += "<|im_start|>assistant\n";
    return text;
  }
};

class ByteModel final : public Model {
 public:
  explicit ByteModel(std::int32_t max_context) {
    config_.name = "fake";
    config_.vocab = kByteModelVocab;
    config_.max_context = max_context;
    config_.eos_tokens = {kByteModelEnd, 2};
  }
  const ModelConfig& config() const override { return config_; }
  const ModelWeights& weights() const override { return weights_; }
  const Tokenizer& tokenizer() const override { return tokenizer_; }
  const ChatTemplate* chat_template() const override { return &template_; }
  std::int64_t weight_bytes() const override { return 0; }
  const std::string& identity() const override { return identity_; }

 private:
  ModelConfig config_;
  ModelWeights weights_;
  ByteTokenizer tokenizer_;
  ChatMlTemplate template_;
  std::string identity_ = "fake-byte-model";
};

}  // namespace

std::unique_ptr<Model> NewByteModel(std::int32_t max_context) {
  return std::make_unique<ByteModel>(max_context);
}

}  // namespace megakernel
