// A dense decoder-only transformer as the reference sees it: sizes, and views of its tensors as a file holds them.
// Plain data; owns nothing.
#pragma once

#include <cstdint>
#include <vector>

namespace megakernel::reference {

enum class ElementType { kF32, kF16, kBF16 };

// A matrix [rows, cols], row-major; a vector has rows = 1. No data: the tensor is absent.
struct Tensor {
  ElementType type = ElementType::kF32;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  const void* data = nullptr;

  explicit operator bool() const { return data != nullptr; }
};

enum class RopeKind { kPlain, kLinear, kLlama3 };

struct Rope {
  RopeKind kind = RopeKind::kPlain;
  double theta = 10000.0;
  double factor = 1.0;           // kLinear, kLlama3
  double low_freq_factor = 1.0;  // kLlama3, as the next two
  double high_freq_factor = 4.0;
  double original_context = 0.0;  // positions
};

struct Shape {
  std::int32_t num_layers = 0;
  std::int32_t hidden = 0;
  std::int32_t num_q_heads = 0;
  std::int32_t num_kv_heads = 0;
  std::int32_t head_dim = 0;
  std::int32_t ffn = 0;
  std::int32_t vocab = 0;
  double rms_eps = 0.0;
  Rope rope;

  std::int64_t QueryWidth() const { return std::int64_t{num_q_heads} * head_dim; }
  std::int64_t KvWidth() const { return std::int64_t{num_kv_heads} * head_dim; }
};

// Matrices are [out features, in features]. RoPE pairs element i of a head with i + head_dim / 2.
struct Layer {
  Tensor attention_norm;  // [1, hidden]
  Tensor wq, wk, wv;      // [heads * head_dim, hidden]
  Tensor bq, bk, bv;      // absent unless the model has biases
  Tensor q_norm, k_norm;  // [1, head_dim]; absent unless the model normalises heads
  Tensor wo;              // [hidden, num_q_heads * head_dim]
  Tensor ffn_norm;        // [1, hidden]
  Tensor w_gate, w_up;    // [ffn, hidden]
  Tensor w_down;          // [hidden, ffn]
};

struct ModelView {
  Shape shape;
  Tensor embedding;   // [vocab, hidden]
  Tensor final_norm;  // [1, hidden]
  Tensor lm_head;     // [vocab, hidden]
  std::vector<Layer> layers;
};

}  // namespace megakernel::reference
