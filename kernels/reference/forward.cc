#include "kernels/reference/forward.h"

#include <cmath>

#include "kernels/reference/linear.h"

namespace megakernel::reference {

const char* StageName(Stage stage) {
  switch (stage) {
    case Stage::kEmbedding:
      return "embedding";
    case Stage::kAttentionInput:
      return "attention input";
    case Stage::kQuery:
      return "query";
    case Stage::kKey:
      return "key";
    case Stage::kValue:
      return "value";
    case Stage::kAttention:
      return "attention";
    case Stage::kAfterAttention:
      return "residual after attention";
    case Stage::kFfnInput:
      return "ffn input";
    case Stage::kActivation:
      return "ffn activation";
    case Stage::kAfterFfn:
      return "residual after ffn";
    case Stage::kFinal:
      return "final norm";
  }
  return "?";
}

template <class Real>
Forward<Real>::Forward(const ModelView& model, const ForwardOptions& options)
    : model_(model),
      options_(options),
      frequencies_(RopeFrequencies(model.shape.rope, model.shape.head_dim)),
      cache_(static_cast<std::size_t>(model.shape.num_layers)) {}

template <class Real>
void Forward<Real>::Observe(Stage stage, std::int32_t layer, std::vector<Real>& values, std::int64_t width) const {
  if (perturbation_) perturbation_(stage, layer, length_, values, width);
  if (observer_) observer_(stage, layer, length_, values, width);
}

template <class Real>
void Forward<Real>::Normalise(const Tensor& weight, std::int64_t num_rows, std::int64_t width, const Real* in,
                              Real* out) const {
  std::vector<Real> scale(static_cast<std::size_t>(width));
  ConvertRow(weight, 0, scale.data());
  for (std::int64_t r = 0; r < num_rows; ++r) {
    const Real* row = in + r * width;
    const Real mean = Dot(row, row, width) / static_cast<Real>(width);
    const Real factor = Real{1} / std::sqrt(mean + static_cast<Real>(model_.shape.rms_eps));
    for (std::int64_t i = 0; i < width; ++i) out[r * width + i] = row[i] * factor * scale[static_cast<std::size_t>(i)];
  }
}

// Queries, keys or values of the rows: product, bias, head norm, RoPE.
template <class Real>
void Forward<Real>::Prepare(const Tensor& w, const Tensor& bias, const Tensor& norm, bool rotate, std::int64_t num_rows,
                            std::vector<Real>& out) const {
  const std::int64_t head_dim = model_.shape.head_dim;
  out.resize(static_cast<std::size_t>(num_rows * w.rows));
  Multiply(w, bias, normalised_.data(), num_rows, options_.threads, out.data());
  if (norm) Normalise(norm, num_rows * w.rows / head_dim, head_dim, out.data(), out.data());
  if (!rotate) return;
  for (std::int64_t r = 0; r < num_rows; ++r) {
    for (std::int64_t at = 0; at < w.rows; at += head_dim) {
      Rotate(frequencies_, options_.angles, length_ + r, out.data() + r * w.rows + at);
    }
  }
}

template <class Real>
void Forward<Real>::Attend(std::int32_t layer, std::int64_t num_rows, std::vector<Real>& out) const {
  const Shape& shape = model_.shape;
  const LayerCache& cache = cache_[static_cast<std::size_t>(layer)];
  const std::int64_t head_dim = shape.head_dim;
  const std::int64_t kv_width = shape.KvWidth();
  const Real scale = Real{1} / std::sqrt(static_cast<Real>(head_dim));
  ParallelFor(num_rows * shape.num_q_heads, 1, options_.threads, [&](std::int64_t begin, std::int64_t end) {
    std::vector<Real> scores;
    for (std::int64_t unit = begin; unit < end; ++unit) {
      const std::int64_t head = unit % shape.num_q_heads;
      const std::int64_t kv_head = head / (shape.num_q_heads / shape.num_kv_heads);
      const std::int64_t positions = length_ + unit / shape.num_q_heads + 1;
      Real* query = out.data() + unit * head_dim;  // the query is replaced by its result
      scores.resize(static_cast<std::size_t>(positions));
      Real largest = -INFINITY;
      for (std::int64_t p = 0; p < positions; ++p) {
        Real& score = scores[static_cast<std::size_t>(p)];
        score = Dot(query, cache.keys.data() + p * kv_width + kv_head * head_dim, head_dim) * scale;
        if (score > largest) largest = score;
      }
      Real total = 0;
      for (Real& score : scores) total += score = std::exp(score - largest);
      for (std::int64_t i = 0; i < head_dim; ++i) query[i] = 0;
      for (std::int64_t p = 0; p < positions; ++p) {
        const Real weight = scores[static_cast<std::size_t>(p)] / total;
        const Real* value = cache.values.data() + p * kv_width + kv_head * head_dim;
        for (std::int64_t i = 0; i < head_dim; ++i) query[i] += weight * value[i];
      }
    }
  });
}

template <class Real>
void Forward<Real>::AttentionBlock(std::int32_t layer, std::int64_t num_rows) {
  const Layer& w = model_.layers[static_cast<std::size_t>(layer)];
  LayerCache& cache = cache_[static_cast<std::size_t>(layer)];
  const std::int64_t hidden = model_.shape.hidden;
  Normalise(w.attention_norm, num_rows, hidden, residual_.data(), normalised_.data());
  Observe(Stage::kAttentionInput, layer, normalised_, hidden);

  std::vector<Real> queries, keys, values, update(residual_.size());
  Prepare(w.wq, w.bq, w.q_norm, true, num_rows, queries);
  Prepare(w.wk, w.bk, w.k_norm, true, num_rows, keys);
  Prepare(w.wv, w.bv, Tensor{}, false, num_rows, values);
  Observe(Stage::kQuery, layer, queries, w.wq.rows);
  Observe(Stage::kKey, layer, keys, w.wk.rows);
  Observe(Stage::kValue, layer, values, w.wv.rows);
  cache.keys.insert(cache.keys.end(), keys.begin(), keys.end());
  cache.values.insert(cache.values.end(), values.begin(), values.end());

  Attend(layer, num_rows, queries);
  Observe(Stage::kAttention, layer, queries, w.wq.rows);
  Multiply(w.wo, Tensor{}, queries.data(), num_rows, options_.threads, update.data());
  for (std::size_t i = 0; i < update.size(); ++i) residual_[i] += update[i];
  Observe(Stage::kAfterAttention, layer, residual_, hidden);
}

template <class Real>
void Forward<Real>::FfnBlock(std::int32_t layer, std::int64_t num_rows) {
  const Layer& w = model_.layers[static_cast<std::size_t>(layer)];
  const std::int64_t hidden = model_.shape.hidden;
  Normalise(w.ffn_norm, num_rows, hidden, residual_.data(), normalised_.data());
  Observe(Stage::kFfnInput, layer, normalised_, hidden);

  std::vector<Real> gate(static_cast<std::size_t>(num_rows * model_.shape.ffn));
  std::vector<Real> up(gate.size()), update(residual_.size());
  Multiply(w.w_gate, Tensor{}, normalised_.data(), num_rows, options_.threads, gate.data());
  Multiply(w.w_up, Tensor{}, normalised_.data(), num_rows, options_.threads, up.data());
  for (std::size_t i = 0; i < gate.size(); ++i) gate[i] = gate[i] / (Real{1} + std::exp(-gate[i])) * up[i];
  Observe(Stage::kActivation, layer, gate, model_.shape.ffn);
  Multiply(w.w_down, Tensor{}, gate.data(), num_rows, options_.threads, update.data());
  for (std::size_t i = 0; i < update.size(); ++i) residual_[i] += update[i];
  Observe(Stage::kAfterFfn, layer, residual_, hidden);
}

template <class Real>
void Forward<Real>::Step(std::span<const std::int32_t> tokens) {
  const std::int64_t hidden = model_.shape.hidden;
  const auto num_rows = static_cast<std::int64_t>(tokens.size());
  residual_.resize(static_cast<std::size_t>(num_rows * hidden));
  normalised_.resize(residual_.size());
  for (std::int64_t r = 0; r < num_rows; ++r) {
    ConvertRow(model_.embedding, tokens[static_cast<std::size_t>(r)], residual_.data() + r * hidden);
  }
  Observe(Stage::kEmbedding, 0, residual_, hidden);
  for (std::int32_t layer = 0; layer < model_.shape.num_layers; ++layer) {
    AttentionBlock(layer, num_rows);
    FfnBlock(layer, num_rows);
  }
  Normalise(model_.final_norm, num_rows, hidden, residual_.data(), normalised_.data());
  Observe(Stage::kFinal, model_.shape.num_layers, normalised_, hidden);
  length_ += num_rows;
}

template <class Real>
std::vector<Real> Forward<Real>::Logits(std::int64_t row) const {
  std::vector<Real> logits(static_cast<std::size_t>(model_.shape.vocab));
  Multiply(model_.lm_head, Tensor{}, normalised_.data() + row * model_.shape.hidden, 1, options_.threads,
           logits.data());
  return logits;
}

template <class Real>
void Forward<Real>::Truncate(std::int64_t length) {
  length_ = length;
  for (LayerCache& cache : cache_) {
    cache.keys.resize(static_cast<std::size_t>(length * model_.shape.KvWidth()));
    cache.values.resize(static_cast<std::size_t>(length * model_.shape.KvWidth()));
  }
}

template class Forward<float>;
template class Forward<double>;

}  // namespace megakernel::reference
