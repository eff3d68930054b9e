// The whole model on the host in double or float: what every other implementation is measured against.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "kernels/reference/model_view.h"
#include "kernels/reference/rope.h"

namespace megakernel::reference {

// Places where values can be watched. Widths: hidden unless said.
enum class Stage {
  kEmbedding,       // residual before layer 0 (layer = 0)
  kAttentionInput,  // normalised residual
  kQuery,           // after bias, head norm and RoPE: num_q_heads * head_dim
  kKey,             // the same for keys: num_kv_heads * head_dim
  kValue,           // num_kv_heads * head_dim
  kAttention,       // before wo: num_q_heads * head_dim
  kAfterAttention,  // residual
  kFfnInput,        // normalised residual
  kActivation,      // silu(gate) * up: ffn
  kAfterFfn,        // residual
  kFinal,           // normalised, before the head (layer = num_layers)
};

const char* StageName(Stage stage);

struct ForwardOptions {
  int threads = 1;
  AngleRounding angles = AngleRounding::kExact;
};

// One sequence: its keys and values, and the positions seen so far. Real is double or float; all arithmetic and the
// cache are of that type. Not thread-safe; `model` and the tensors it views must outlive it.
//   x = E[token]; per layer: x += Wo attention(rope(norm(Wq n(x))), ...); x += Wd (silu(Wg n(x)) * (Wu n(x)));
//   logits = Wh n(x); n(v) = v / sqrt(mean(v^2) + eps) * weight.
template <class Real>
class Forward {
 public:
  // values: [num_rows, width] of the rows of this step, the first at `first_position`.
  using Observer = std::function<void(Stage stage, std::int32_t layer, std::int64_t first_position,
                                      std::span<const Real> values, std::int64_t width)>;
  // The same, and may change the values: what the model makes of an error at that place.
  using Perturbation = std::function<void(Stage stage, std::int32_t layer, std::int64_t first_position,
                                          std::span<Real> values, std::int64_t width)>;

  Forward(const ModelView& model, const ForwardOptions& options);

  // Runs tokens at positions [length(), length() + tokens.size()) and appends their keys and values.
  // REQUIRES: every token in [0, vocab).
  void Step(std::span<const std::int32_t> tokens);

  // Logits of row `row` of the last step: [vocab].
  std::vector<Real> Logits(std::int64_t row) const;

  std::int64_t length() const { return length_; }
  // Forgets positions from `length` on. REQUIRES: 0 <= length <= length().
  void Truncate(std::int64_t length);
  void set_observer(Observer observer) { observer_ = std::move(observer); }
  // Comes before the observer.
  void set_perturbation(Perturbation perturbation) { perturbation_ = std::move(perturbation); }

 private:
  struct LayerCache {
    std::vector<Real> keys, values;  // [positions, num_kv_heads * head_dim]
  };

  void Attend(std::int32_t layer, std::int64_t num_rows, std::vector<Real>& out) const;
  void AttentionBlock(std::int32_t layer, std::int64_t num_rows);
  void FfnBlock(std::int32_t layer, std::int64_t num_rows);
  // Normalises rows of `width` with the vector `weight`.
  void Normalise(const Tensor& weight, std::int64_t num_rows, std::int64_t width, const Real* in, Real* out) const;
  void Prepare(const Tensor& w, const Tensor& bias, const Tensor& norm, bool rotate, std::int64_t num_rows,
               std::vector<Real>& out) const;
  void Observe(Stage stage, std::int32_t layer, std::vector<Real>& values, std::int64_t width) const;

  const ModelView& model_;
  ForwardOptions options_;
  std::vector<double> frequencies_;
  std::vector<LayerCache> cache_;
  std::int64_t length_ = 0;       // positions before the step that runs
  std::vector<Real> residual_;    // [rows, hidden]
  std::vector<Real> normalised_;  // [rows, hidden]
  Observer observer_;
  Perturbation perturbation_;
};

}  // namespace megakernel::reference
