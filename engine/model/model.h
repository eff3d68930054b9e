// A model as read from its files: what it is (ModelConfig) and where its tensors lie (ModelWeights).
// Executors read tensors from here, in whatever form the file holds them, and pack them as they like.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/base/load_progress.h"

namespace megakernel {

enum class Family { kLlama, kQwen2, kQwen3 };

enum class RopeScaling { kNone, kLlama3, kLinear };

// What the model's files recommend to a request that leaves a number out. Ranges are those of SamplingParams.
struct SamplingDefaults {
  float temperature = 1.0f;
  std::int32_t top_k = 0;
  float top_p = 1.0f;
  float min_p = 0.0f;
  float repetition_penalty = 1.0f;
};

// Sizes and constants of a dense decoder-only transformer. Names follow kernels/README.md.
struct ModelConfig {
  Family family = Family::kLlama;
  std::string name;  // as the file gives it, for people
  std::int32_t num_layers = 0;
  std::int32_t hidden = 0;
  std::int32_t num_q_heads = 0;
  std::int32_t num_kv_heads = 0;
  std::int32_t head_dim = 0;  // num_q_heads * head_dim need not equal hidden
  std::int32_t ffn = 0;
  std::int32_t vocab = 0;
  std::int32_t max_context = 0;  // positions the model was made for
  float rms_eps = 0.0f;
  double rope_theta = 0.0;
  RopeScaling rope_scaling = RopeScaling::kNone;
  double rope_factor = 1.0;  // kLinear, kLlama3
  double rope_low_freq_factor = 1.0;
  double rope_high_freq_factor = 4.0;
  std::int32_t rope_original_context = 0;
  bool qk_norm = false;         // RMS norm of every query and key head (Qwen3)
  bool qkv_bias = false;        // Qwen2.5
  bool tied_embedding = false;  // the LM head is the embedding matrix
  std::int32_t bos_token = -1;  // -1 = none
  bool add_bos = false;         // plain text at the start of a sequence gets bos_token in front
  std::vector<std::int32_t> eos_tokens;
  SamplingDefaults sampling;
};

// Element types a file may hold. Block types keep their file layout (ggml's).
enum class TensorType { kF32, kF16, kBF16, kQ8_0, kQ4_0, kQ4_1, kQ5_0, kQ5_1, kIQ4_NL, kQ4_K, kQ5_K, kQ6_K };

const char* TensorTypeName(TensorType type);
// Elements per block (1 for plain types) and bytes per block.
std::int32_t BlockElements(TensorType type);
std::int32_t BlockBytes(TensorType type);

// A matrix [rows, cols], row-major, cols a multiple of BlockElements(type); a vector has rows = 1. Does not own `data`.
struct TensorView {
  std::string name;
  TensorType type = TensorType::kF32;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  const std::byte* data = nullptr;

  explicit operator bool() const { return data != nullptr; }
  std::int64_t RowBytes() const { return cols / BlockElements(type) * BlockBytes(type); }
  std::int64_t Bytes() const { return rows * RowBytes(); }
};

// Writes cols floats: the exact values of row `row`.
void DequantizeRow(const TensorView& tensor, std::int64_t row, float* out);

// y = x W^T: every matrix is [out features, in features]. Rows of wq and wk are in the order of RoPE on halves
// (element i pairs with i + head_dim / 2), whatever the file used.
struct LayerWeights {
  TensorView attention_norm;  // [1, hidden]
  TensorView wq;              // [num_q_heads * head_dim, hidden]
  TensorView wk, wv;          // [num_kv_heads * head_dim, hidden]
  TensorView bq, bk, bv;      // empty unless qkv_bias
  TensorView q_norm, k_norm;  // [1, head_dim]; empty unless qk_norm
  TensorView wo;              // [hidden, num_q_heads * head_dim]
  TensorView ffn_norm;        // [1, hidden]
  TensorView w_gate, w_up;    // [ffn, hidden]
  TensorView w_down;          // [hidden, ffn]
};

struct ModelWeights {
  TensorView embedding;   // [vocab, hidden]
  TensorView final_norm;  // [1, hidden]
  TensorView lm_head;     // [vocab, hidden]; equals embedding when tied
  std::vector<LayerWeights> layers;
};

class Tokenizer;
class ChatTemplate;

// An open model. Owns the mapped file, permuted copies of tensors, the tokenizer and the chat template.
// Immutable after Load; views stay valid as long as it lives.
class Model {
 public:
  virtual ~Model() = default;
  virtual const ModelConfig& config() const = 0;
  virtual const ModelWeights& weights() const = 0;
  // False when the files carry no tokenizer that is understood: such a model takes and gives token ids only, and text
  // (prompts, chat, stop strings, Tokenize) must be refused by name before it gets here.
  virtual bool has_tokenizer() const { return true; }
  // Without a tokenizer an object that knows the vocabulary's size and has no text: tokens have no bytes.
  virtual const Tokenizer& tokenizer() const = 0;
  virtual const ChatTemplate* chat_template() const = 0;  // null when the file has none
  // Bytes of all tensors, as in the file.
  virtual std::int64_t weight_bytes() const = 0;
  // Gives back the memory of a tensor's pages where they are those of a mapped file: called by whoever has made a copy
  // of its own. The tensor can be read on, at the cost of reading the file again. Safe from many threads.
  virtual void Release(const TensorView& tensor) const {}
  // Hex digest that names these weights and this tokenizer: equal for equal files.
  virtual const std::string& identity() const = 0;
};

// Opens a GGUF file or a Hugging Face directory (hf_model.h). Every error is InvalidArgument (or NotFound) and names
// the file, the key or tensor, and the limit. Stages of `progress`: "read" (directory); "check", "digest" (GGUF).
absl::StatusOr<std::unique_ptr<Model>> LoadModel(const std::string& path, const LoadProgress& progress = {});

}  // namespace megakernel
