#include "engine/model/hf_tokenizer.h"

#include <deque>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/model/hf_text_rules.h"
#include "engine/model/json_text.h"
#include "engine/text/bpe_tokenizer.h"
#include "engine/text/byte_alphabet.h"
#include "engine/text/piece_tokenizer.h"

namespace megakernel {
namespace {

using nlohmann::json;

class Reader {
 public:
  Reader(const json& root, const std::string& where, std::int32_t vocab) : file_(root, where), vocab_(vocab) {
    out_.tokens.resize(static_cast<std::size_t>(vocab));
    out_.kinds.assign(out_.tokens.size(), TokenKind::kUnused);
  }

  absl::StatusOr<HfTokenizer> Run() {
    HfTokenizer result;
    const json* model = file_.Find("model");
    if (model == nullptr || !model->is_object()) file_.Fail("model is missing or not an object");
    if (file_.ok()) ReadKind(*model);
    if (!file_.ok()) return file_.status();
    if (has_pieces_) {
      piece_rules_ = ReadPieceRules(file_);
    } else {
      out_.rules = ReadTextRules(file_);
      CheckDecoder(file_);
    }
    result.first_token = ReadFirstToken(file_);
    if (file_.ok()) ReadModel(*model);
    if (file_.ok()) ReadAddedTokens();
    if (result.first_token >= vocab_)
      file_.Fail(absl::StrCat("post_processor: token ", result.first_token, OutOfRange()));
    if (!file_.ok()) return file_.status();
    auto tokenizer = has_pieces_ ? CreatePieceTokenizer(Pieces()) : CreateBpeTokenizer(out_);
    if (!tokenizer.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(file_.where(), ": ", tokenizer.status().message()));
    }
    result.tokenizer = *std::move(tokenizer);
    return result;
  }

 private:
  PieceVocabulary Pieces() {
    for (std::size_t i = 0; i < out_.tokens.size(); ++i) {
      if (out_.kinds[i] == TokenKind::kNormal && ByteOfToken(out_.tokens[i]) >= 0) out_.kinds[i] = TokenKind::kByte;
    }
    return {.tokens = out_.tokens,
            .kinds = out_.kinds,
            .merges = out_.merges,
            .adds_space = piece_rules_.adds_space,
            .strips_space = piece_rules_.strips_space,
            .flags = out_.flags};
  }

  std::string OutOfRange() const {
    return absl::StrCat(" is not in 0 to ", vocab_ - 1, ", the rows of the embedding that config.json names");
  }

  void ReadModel(const json& value) {
    JsonFields model(value, absl::StrCat(file_.where(), ": model"));
    if (const std::string type = model.String("type", "BPE"); model.ok() && type != "BPE") {
      model.Fail(absl::StrCat("type \"", type, "\" is not supported (BPE)"));
    }
    if (model.Number("dropout", 0, 1, 0) != 0) model.Fail("dropout is not supported");
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      if (!model.String(key, "").empty()) model.Fail(absl::StrCat(key, " is not supported"));
    }
    out_.rules.whole_words = model.Bool("ignore_merges", false);
    if (has_pieces_ && out_.rules.whole_words) model.Fail("ignore_merges is not supported with byte_fallback");
    ReadVocabulary(model);
    if (model.ok()) ReadMerges(model);
    // With such a token the library writes it for bytes that have none; it never comes to that in a whole alphabet.
    if (model.ok() && !has_pieces_ && !model.String("unk_token", "").empty()) RequireWholeAlphabet(model);
    HandOn(model);
  }

  void ReadKind(const json& value) {
    JsonFields model(value, absl::StrCat(file_.where(), ": model"));
    has_pieces_ = model.Bool("byte_fallback", false);
    HandOn(model);
  }

  // Makes the first error of a part that of the file.
  void HandOn(const JsonFields& part) {
    if (!part.ok()) file_.Fail(std::string(part.status().message().substr(file_.where().size() + 2)));
  }

  void ReadVocabulary(JsonFields& model) {
    const json* entries = model.Find("vocab");
    if (entries == nullptr || !entries->is_object()) return model.Fail("vocab is missing or not an object");
    for (const auto& [token, id] : entries->items()) {
      if (!id.is_number_unsigned() || id >= vocab_) return model.Fail(absl::StrCat("vocab: an id", OutOfRange()));
      const auto index = id.get<std::size_t>();
      if (out_.kinds[index] != TokenKind::kUnused)
        return model.Fail(absl::StrCat("vocab: two tokens have the id ", index));
      // A view of the key in the document.
      out_.tokens[index] = token;
      out_.kinds[index] = TokenKind::kNormal;
    }
  }

  void ReadMerges(JsonFields& model) {
    const json* merges = model.Find("merges");
    if (merges == nullptr || !merges->is_array()) return model.Fail("merges is missing or not a list");
    out_.merges.reserve(merges->size());
    for (const json& merge : *merges) {
      if (merge.is_string()) {
        out_.merges.push_back(merge.get_ref<const std::string&>());
        continue;
      }
      if (!merge.is_array() || merge.size() != 2 || !merge[0].is_string() || !merge[1].is_string()) {
        return model.Fail(absl::StrCat("merge ", out_.merges.size(), " is neither text nor a pair of texts"));
      }
      out_.merges.push_back(texts_.emplace_back(
          absl::StrCat(merge[0].get_ref<const std::string&>(), " ", merge[1].get_ref<const std::string&>())));
    }
  }

  void RequireWholeAlphabet(JsonFields& model) {
    absl::flat_hash_set<std::string> tokens(out_.tokens.begin(), out_.tokens.end());
    for (int byte = 0; byte < 256; ++byte) {
      if (!tokens.contains(AlphabetCharacter(static_cast<std::uint8_t>(byte)))) {
        return model.Fail(absl::StrCat("unk_token is not supported with a vocabulary without a token for byte ", byte));
      }
    }
  }

  void ReadAddedTokens() {
    const json* list = file_.Find("added_tokens");
    if (list == nullptr) return;
    if (!list->is_array()) return file_.Fail("added_tokens must be a list");
    std::size_t number = 0;
    for (const json& entry : *list) {
      const std::string where = absl::StrCat(file_.where(), ": added_tokens[", number++, "]");
      if (!entry.is_object()) return file_.Fail(absl::StrCat("added_tokens[", number - 1, "] must be an object"));
      JsonFields token(entry, where);
      ReadAddedToken(token);
      HandOn(token);
      if (!token.ok()) return;
    }
  }

  void ReadAddedToken(JsonFields& token) {
    const auto index = static_cast<std::size_t>(token.Int("id", 0, vocab_ - 1));
    const std::string& content = texts_.emplace_back(token.String("content"));
    const AddedTokenFlags flags = {.special = token.Bool("special", false),
                                   .lstrip = token.Bool("lstrip", false),
                                   .rstrip = token.Bool("rstrip", false),
                                   .single_word = token.Bool("single_word", false),
                                   .normalized = token.Bool("normalized", !token.Bool("special", false))};
    if (!token.ok()) return;
    if (content.empty()) return token.Fail("content is empty");
    if (out_.kinds[index] != TokenKind::kUnused && out_.tokens[index] != content) {
      return token.Fail(absl::StrCat("id ", index, " belongs to another token already"));
    }
    if (out_.kinds[index] == TokenKind::kControl || out_.kinds[index] == TokenKind::kUserDefined) {
      return token.Fail(absl::StrCat("id ", index, " is listed twice"));
    }
    out_.tokens[index] = content;
    out_.kinds[index] = flags.special ? TokenKind::kControl : TokenKind::kUserDefined;
    out_.flags.emplace_back(static_cast<TokenId>(index), flags);
  }

  JsonFields file_;
  std::int32_t vocab_;
  BpeVocabulary out_;  // of pieces, too, but for their rules
  bool has_pieces_ = false;
  PieceRules piece_rules_;
  std::deque<std::string> texts_;  // what out_ points at and the document does not hold
};

}  // namespace

absl::StatusOr<HfTokenizer> ParseHfTokenizer(std::string_view text, const std::string& where, std::int32_t vocab) {
  const auto root = ParseJsonObject(text, where);
  if (!root.ok()) return root.status();
  return Reader(*root, where, vocab).Run();
}

}  // namespace megakernel
