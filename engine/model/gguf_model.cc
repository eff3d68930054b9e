#include "engine/model/gguf_model.h"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/model/digest.h"
#include "engine/model/gguf_config.h"
#include "engine/model/gguf_file.h"
#include "engine/model/gguf_parts.h"
#include "engine/model/gguf_tokenizer.h"
#include "engine/model/gguf_weights.h"
#include "engine/model/mapped_file.h"
#include "engine/text/chat_template.h"
#include "engine/text/jinja_template.h"
#include "engine/text/tokenizer.h"

namespace megakernel {
namespace {

constexpr const char* kTemplateKey = "tokenizer.chat_template";

// In pieces whose pages are given back at once; `done` gets the bytes of each.
void AddReleasing(const MappedFile& file, Digest& digest, const std::function<void(std::size_t)>& done) {
  constexpr std::size_t kPieceBytes = 1 << 20;
  const std::span<const std::byte> bytes = file.bytes();
  for (std::size_t at = 0; at < bytes.size(); at += kPieceBytes) {
    const std::span<const std::byte> piece = bytes.subspan(at, std::min(kPieceBytes, bytes.size() - at));
    digest.Add(piece);
    file.Release(piece);
    done(piece.size());
  }
}

class GgufModel final : public Model {
 public:
  explicit GgufModel(MappedFile mapped) { parts_.push_back(std::move(mapped)); }

  absl::Status Build(const LoadProgress& progress);

  const ModelConfig& config() const override { return config_; }
  const ModelWeights& weights() const override { return weights_; }
  const Tokenizer& tokenizer() const override { return *tokenizer_; }
  const ChatTemplate* chat_template() const override { return chat_template_.get(); }
  std::int64_t weight_bytes() const override { return weight_bytes_; }
  const std::string& identity() const override { return identity_; }
  void Release(const TensorView& tensor) const override {
    for (const MappedFile& part : parts_) part.Release({tensor.data, static_cast<std::size_t>(tensor.Bytes())});
  }

 private:
  // Opens the other parts of a model that is split over files.
  absl::Status AppendParts(GgufFile& file);
  absl::Status BuildText(const GgufFile& file);
  void MakeIdentity(const LoadProgress& progress);

  std::vector<MappedFile> parts_;
  OwnedTensors owned_;
  ModelConfig config_;
  ModelWeights weights_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<ChatTemplate> chat_template_;
  std::int64_t weight_bytes_ = 0;
  std::string identity_;
};

absl::Status GgufModel::Build(const LoadProgress& progress) {
  absl::StatusOr<GgufFile> file = GgufFile::Parse(parts_.front().bytes(), parts_.front().path());
  if (!file.ok()) return file.status();
  if (absl::Status status = AppendParts(*file); !status.ok()) return status;
  absl::StatusOr<ModelConfig> config = ReadGgufConfig(*file);
  if (!config.ok()) return config.status();
  config_ = *std::move(config);
  if (absl::Status status = BuildText(*file); !status.ok()) return status;
  absl::StatusOr<ModelWeights> weights = BindGgufWeights(*file, config_, owned_, progress);
  if (!weights.ok()) return weights.status();
  weights_ = *std::move(weights);
  for (const TensorView& tensor : file->tensors()) weight_bytes_ += tensor.Bytes();
  MakeIdentity(progress);
  return absl::OkStatus();
}

void GgufModel::MakeIdentity(const LoadProgress& progress) {
  std::int64_t done = 0, total = 0;
  for (const MappedFile& part : parts_) total += static_cast<std::int64_t>(part.bytes().size());
  Digest digest;
  for (const MappedFile& part : parts_) {
    AddReleasing(part, digest, [&](std::size_t bytes) {
      done += static_cast<std::int64_t>(bytes);
      if (progress) progress("digest", done, total);
    });
  }
  identity_ = digest.Hex();
}

absl::Status GgufModel::AppendParts(GgufFile& file) {
  absl::StatusOr<std::vector<std::string>> others = OtherParts(file);
  if (!others.ok()) return others.status();
  for (std::size_t i = 0; i < others->size(); ++i) {
    absl::StatusOr<MappedFile> mapped = MappedFile::Open((*others)[i]);
    if (!mapped.ok()) return mapped.status();
    absl::StatusOr<GgufFile> part = GgufFile::Parse(mapped->bytes(), mapped->path());
    if (!part.ok()) return part.status();
    if (absl::Status status = CheckPart(*part, i + 1, others->size() + 1); !status.ok()) return status;
    parts_.push_back(*std::move(mapped));
    if (absl::Status status = file.Append(*std::move(part)); !status.ok()) return status;
  }
  return CheckTensorCount(file);
}

absl::Status GgufModel::BuildText(const GgufFile& file) {
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = ReadGgufTokenizer(file);
  if (!tokenizer.ok()) return tokenizer.status();
  tokenizer_ = *std::move(tokenizer);
  if (tokenizer_->vocab() != config_.vocab) {
    return file.Error("tokenizer.ggml.tokens", absl::StrCat(tokenizer_->vocab(), " tokens for the ", config_.vocab,
                                                            " rows of token_embd.weight"));
  }
  if (!file.Has(kTemplateKey)) return absl::OkStatus();
  absl::StatusOr<std::string_view> source = file.GetString(kTemplateKey);
  if (!source.ok()) return source.status();
  const auto written_out = [this](std::int32_t token) {
    return token < 0 ? std::string() : std::string(tokenizer_->TokenBytes(token, /*skip_special=*/false));
  };
  absl::StatusOr<std::unique_ptr<ChatTemplate>> chat_template = CreateJinjaTemplate(
      *source, {.bos_token = written_out(config_.bos_token),
                .eos_token = written_out(config_.eos_tokens.empty() ? -1 : config_.eos_tokens.front())});
  if (!chat_template.ok()) {
    const absl::string_view problem = chat_template.status().message();
    return file.Error(kTemplateKey, std::string_view(problem.data(), problem.size()));
  }
  chat_template_ = *std::move(chat_template);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> LoadGgufModel(const std::string& path, const LoadProgress& progress) {
  absl::StatusOr<MappedFile> mapped = MappedFile::Open(path);
  if (!mapped.ok()) return mapped.status();
  auto model = std::make_unique<GgufModel>(*std::move(mapped));
  if (absl::Status status = model->Build(progress); !status.ok()) return status;
  return model;
}

}  // namespace megakernel
