#include "engine/cpu/forward.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/base/status_macros.h"

namespace megakernel::cpu {
namespace {

// Up to this many rows every member normalises and quantises all of them for itself: cheaper than a barrier.
constexpr std::int32_t kPrivateRows = 2;

// What a member fetches of its next matrix before a barrier, in steps that are bound by memory.
constexpr std::int64_t kFetchBytes = 8192;
constexpr std::int32_t kFetchRows = 4;

std::int32_t Padded(std::int64_t n) {
  return static_cast<std::int32_t>(RoundUp(n, kTileCols));
}

}  // namespace

struct Forward::Private {
  MatmulScratch matmul;
  Buffer<float> sums;    // of MatmulScratch
  Buffer<float> floats;  // [kPrivateRows][widest]
  Buffer<std::int16_t> values;
  Buffer<float> scales;
  Buffer<float> scaled_sums;
  Buffer<float> up;  // [max_rows][16]
  Buffer<float> queries, keys, block_values, scores, states;
  std::vector<std::int32_t> lengths;
};

Forward::Forward(const Model& model, const PackedModel& packed, const KernelTable& kernels, const KvStore& kv,
                 const Shape& shape)
    : config_(model.config()),
      weights_(model.weights()),
      packed_(packed),
      kernels_(kernels),
      kv_(kv),
      shape_(shape),
      rope_(config_, shape.max_context),
      hidden_(Padded(config_.hidden)),
      q_dim_(config_.num_q_heads * config_.head_dim),
      kv_dim_(config_.num_kv_heads * config_.head_dim),
      ffn_(Padded(config_.ffn)),
      logits_stride_(RoundUp(config_.vocab, kTileCols)),
      all_rows_(static_cast<std::size_t>(shape.max_rows)) {
  std::iota(all_rows_.begin(), all_rows_.end(), 0);
}

Forward::~Forward() = default;

absl::StatusOr<std::unique_ptr<Forward>> Forward::Create(const Model& model, const PackedModel& packed,
                                                         const KernelTable& kernels, const KvStore& kv,
                                                         const Shape& shape) {
  std::unique_ptr<Forward> forward(new Forward(model, packed, kernels, kv, shape));
  MK_RETURN_IF_ERROR(forward->Allocate());
  return forward;
}

absl::Status Forward::Allocate() {
  const std::int64_t rows = std::max(shape_.max_rows, kLogitRows);
  const std::int64_t widest = std::max({hidden_, q_dim_, ffn_});
  const std::int64_t group = config_.num_q_heads / config_.num_kv_heads;
  const std::int64_t queries = kAttentionRows * group;
  const std::int64_t blocks = (shape_.max_context + kAttentionBlock - 1) / kAttentionBlock;
  const std::int64_t state = StateFloats(config_.head_dim);
  const auto get = [](auto& buffer, std::int64_t count, const char* what) -> absl::Status {
    MK_ASSIGN_OR_RETURN(buffer, std::remove_reference_t<decltype(buffer)>::Allocate(count, what));
    return absl::OkStatus();
  };
  MK_RETURN_IF_ERROR(get(x_, rows * hidden_, "residual rows"));
  MK_RETURN_IF_ERROR(get(qkv_, rows * (q_dim_ + 2 * kv_dim_), "query, key and value rows"));
  MK_RETURN_IF_ERROR(get(attended_, rows * q_dim_, "attention rows"));
  MK_RETURN_IF_ERROR(get(activated_, rows * ffn_, "feed-forward rows"));
  MK_RETURN_IF_ERROR(get(logits_, kLogitRows * logits_stride_, "logits"));
  MK_RETURN_IF_ERROR(get(partials_, kSplitRows * config_.num_q_heads * blocks * state, "attention states"));
  MK_RETURN_IF_ERROR(get(shared_floats_, rows * widest, "matrix inputs"));
  MK_RETURN_IF_ERROR(get(shared_values_, rows * widest, "matrix inputs"));
  MK_RETURN_IF_ERROR(get(shared_scales_, rows * widest / kTileCols, "matrix inputs"));
  MK_RETURN_IF_ERROR(get(shared_sums_, rows * widest / kTileCols, "matrix inputs"));
  for (int i = 0; i < shape_.num_threads; ++i) {
    auto own = std::make_unique<Private>();
    MK_RETURN_IF_ERROR(get(own->sums, rows * kTileRows, "scratch"));
    own->matmul.sums = own->sums.data();
    MK_RETURN_IF_ERROR(get(own->floats, kPrivateRows * widest, "scratch"));
    MK_RETURN_IF_ERROR(get(own->values, kPrivateRows * widest, "scratch"));
    MK_RETURN_IF_ERROR(get(own->scales, kPrivateRows * widest / kTileCols, "scratch"));
    MK_RETURN_IF_ERROR(get(own->scaled_sums, kPrivateRows * widest / kTileCols, "scratch"));
    MK_RETURN_IF_ERROR(get(own->up, rows * kTileRows, "scratch"));
    MK_RETURN_IF_ERROR(get(own->queries, queries * config_.head_dim, "scratch"));
    MK_RETURN_IF_ERROR(get(own->keys, std::int64_t{kAttentionBlock} * config_.head_dim, "scratch"));
    MK_RETURN_IF_ERROR(get(own->block_values, std::int64_t{kAttentionBlock} * config_.head_dim, "scratch"));
    MK_RETURN_IF_ERROR(get(own->scores, queries * kAttentionBlock, "scratch"));
    MK_RETURN_IF_ERROR(get(own->states, queries * state, "scratch"));
    own->lengths.resize(static_cast<std::size_t>(queries));
    own_.push_back(std::move(own));
  }
  return absl::OkStatus();
}

void Forward::Begin(const Batch& batch) {
  batch_ = &batch;
  attention_.Build(batch, config_.num_kv_heads, shape_.num_threads);
}

void Forward::RunLayers(Worker& worker) {
  Embed(worker);
  for (std::int32_t layer = 0; layer < config_.num_layers; ++layer) {
    RunLayer(worker, layer);
  }
}

void Forward::RunLayer(Worker& worker, std::int32_t index) {
  const PackedLayer& layer = packed_.layers()[index];
  const std::int32_t rows = batch_->num_rows();
  const std::span<const std::int32_t> all(all_rows_.data(), rows);

  const bool last = index + 1 == config_.num_layers;
  const PackedMatrix& after = last ? packed_.lm_head() : packed_.layers()[index + 1].wq;

  ProjectQkv(worker, layer, Normalize(worker, all, layer.attention_norm));
  Attend(worker, index);
  Multiply(worker, layer.wo, Quantize(worker, attended_, q_dim_), rows, x_.data(), hidden_, true);
  Fetch(worker, layer.w_gate);
  worker.Barrier();
  GateUp(worker, layer, Normalize(worker, all, layer.ffn_norm));
  Multiply(worker, layer.w_down, Quantize(worker, activated_, ffn_), rows, x_.data(), hidden_, true);
  Fetch(worker, after);
  worker.Barrier();
}

void Forward::Logits(Worker& worker, std::span<const std::int32_t> rows) {
  const Activations input = Normalize(worker, rows, packed_.final_norm());
  Multiply(worker, packed_.lm_head(), input, static_cast<std::int32_t>(rows.size()), logits_.data(), logits_stride_,
           false);
  worker.Barrier();
}

void Forward::Embed(Worker& worker) {
  for (int row, count; worker.Take(batch_->num_rows(), 1, row, count);) {
    DequantizeRow(weights_.embedding, batch_->tokens[row], x_.data() + std::int64_t{row} * hidden_);
  }
  worker.Barrier();
}

Activations Forward::InputBuffer(Worker& worker, std::int32_t num_rows, std::int32_t cols) {
  Private& own = *own_[worker.index()];
  if (num_rows <= kPrivateRows) {
    return {cols, own.floats.data(), own.values.data(), own.scales.data(), own.scaled_sums.data()};
  }
  return {cols, shared_floats_.data(), shared_values_.data(), shared_scales_.data(), shared_sums_.data()};
}

Activations Forward::Normalize(Worker& worker, std::span<const std::int32_t> rows, const PackedVector& weight) {
  const auto num_rows = static_cast<std::int32_t>(rows.size());
  const Activations input = InputBuffer(worker, num_rows, hidden_);
  const auto one = [&](std::int32_t i) {
    const Activations row = input.Row(i);
    kernels_.rms_norm(x_.data() + std::int64_t{rows[i]} * hidden_, weight.data(), config_.hidden, hidden_,
                      config_.rms_eps, row.floats);
    kernels_.quantize(row);
  };
  if (num_rows <= kPrivateRows) {
    for (std::int32_t i = 0; i < num_rows; ++i) one(i);
    return input;
  }
  for (int i, count; worker.Take(num_rows, 1, i, count);) one(i);
  worker.Barrier();
  return input;
}

Activations Forward::Quantize(Worker& worker, const Buffer<float>& floats, std::int32_t cols) {
  const std::int32_t num_rows = batch_->num_rows();
  Activations input = InputBuffer(worker, num_rows, cols);
  input.floats = floats.data();
  if (num_rows <= kPrivateRows) {
    for (std::int32_t i = 0; i < num_rows; ++i) kernels_.quantize(input.Row(i));
    return input;
  }
  for (int i, count; worker.Take(num_rows, 1, i, count);) kernels_.quantize(input.Row(i));
  worker.Barrier();
  return input;
}

// Strips that a member takes at a time: small, so that one that is held up does not hold up the rest, and with many
// rows fewer, because taking is the heartbeat that a watchdog looks at.
std::int32_t Forward::Chunk(std::int32_t total) const {
  const std::int32_t most = std::clamp(512 / std::max(1, batch_->num_rows()), 1, 8);
  return std::clamp(total / (shape_.num_threads * 12), 1, most);
}

// Fetches the start of the member's share of a matrix that the next phase reads, while the memory is idle: a stream's
// first lines cost a full latency each, 150 times a token.
void Forward::Fetch(const Worker& worker, const PackedMatrix& matrix) const {
  if (batch_->num_rows() > kFetchRows) return;
  const std::byte* start = matrix.Strip(worker.ShareOf(matrix.num_strips));
  for (std::int64_t at = 0; at < kFetchBytes; at += 64) __builtin_prefetch(start + at, 0, 2);
}

void Forward::Multiply(Worker& worker, const PackedMatrix& matrix, const Activations& input, std::int32_t num_rows,
                       float* out, std::int64_t stride, bool add) {
  for (int first, count; worker.Take(matrix.num_strips, Chunk(matrix.num_strips), first, count);) {
    kernels_.matmul({.matrix = &matrix,
                     .first_strip = first,
                     .num_strips = count,
                     .input = input,
                     .num_rows = num_rows,
                     .out = out + kTileRows * first,
                     .out_stride = stride,
                     .add = add,
                     .scratch = &own_[worker.index()]->matmul});
  }
}

void Forward::ProjectQkv(Worker& worker, const PackedLayer& layer, const Activations& input) {
  const PackedMatrix* matrices[] = {&layer.wq, &layer.wk, &layer.wv};
  const std::int32_t total = layer.wq.num_strips + layer.wk.num_strips + layer.wv.num_strips;
  for (int first, count; worker.Take(total, Chunk(total), first, count);) {
    std::int32_t start = 0;  // of the matrix, in strips of all three
    for (const PackedMatrix* matrix : matrices) {
      const std::int32_t begin = std::max(first, start);
      const std::int32_t end = std::min(first + count, start + matrix->num_strips);
      if (begin < end) {
        kernels_.matmul({.matrix = matrix,
                         .first_strip = begin - start,
                         .num_strips = end - begin,
                         .input = input,
                         .num_rows = batch_->num_rows(),
                         .out = qkv_.data() + kTileRows * begin,
                         .out_stride = q_dim_ + 2 * kv_dim_,
                         .add = false,
                         .scratch = &own_[worker.index()]->matmul});
      }
      start += matrix->num_strips;
    }
  }
  Fetch(worker, layer.wo);
  worker.Barrier();
}

void Forward::GateUp(Worker& worker, const PackedLayer& layer, const Activations& input) {
  const std::int32_t rows = batch_->num_rows();
  const std::int32_t total = layer.w_gate.num_strips;
  Private& own = *own_[worker.index()];
  for (int first, count; worker.Take(total, Chunk(total), first, count);) {
    for (std::int32_t strip = first; strip < first + count; ++strip) {
      float* gate = activated_.data() + kTileRows * strip;
      MatmulCall call = {.matrix = &layer.w_gate,
                         .first_strip = strip,
                         .num_strips = 1,
                         .input = input,
                         .num_rows = rows,
                         .out = gate,
                         .out_stride = ffn_,
                         .add = false,
                         .scratch = &own.matmul};
      kernels_.matmul(call);
      call.matrix = &layer.w_up;
      call.out = own.up.data();
      call.out_stride = kTileRows;
      kernels_.matmul(call);
      for (std::int32_t row = 0; row < rows; ++row) {
        kernels_.silu_multiply(gate + std::int64_t{row} * ffn_, own.up.data() + kTileRows * row, kTileRows);
      }
    }
  }
  Fetch(worker, layer.w_down);
  worker.Barrier();
}

// Bias, per-head norm and rotation of `count` heads, in place.
void Forward::PrepareHeads(float* heads, std::int32_t count, const PackedVector& bias, std::int32_t first_head,
                           const PackedVector& norm, std::int32_t position, float scale) {
  const std::int32_t dim = config_.head_dim;
  for (std::int32_t h = 0; h < count; ++h) {
    float* head = heads + h * dim;
    if (!bias.empty()) {
      const float* b = bias.data() + (first_head + h) * dim;
      for (std::int32_t d = 0; d < dim; ++d) head[d] += b[d];
    }
    if (!norm.empty()) kernels_.rms_norm(head, norm.data(), dim, dim, config_.rms_eps, head);
    kernels_.rotate(head, rope_.Cosines(position), rope_.Sines(position), dim, scale);
  }
}

void Forward::AppendRow(std::int32_t layer, std::int32_t row, std::int32_t kv_head) {
  const PackedLayer& weights = packed_.layers()[layer];
  const std::int32_t dim = config_.head_dim;
  const std::int32_t position = batch_->positions[row];
  float* key = qkv_.data() + std::int64_t{row} * (q_dim_ + 2 * kv_dim_) + q_dim_ + kv_head * dim;
  float* value = key + kv_dim_;
  PrepareHeads(key, 1, weights.bk, kv_head, weights.k_norm, position, 1.0f);
  if (!weights.bv.empty()) {
    for (std::int32_t d = 0; d < dim; ++d) value[d] += weights.bv[kv_head * dim + d];
  }
  kernels_.append(kv_.Planes(layer, kv_head, batch_->page_tables[row]), position, key, value);
}

void Forward::Attend(Worker& worker, std::int32_t layer) {
  // A unit appends its own key first where no other row of the step reads it.
  const bool fused = batch_->one_row_each();
  const std::int32_t heads = config_.num_kv_heads;
  if (!fused) {
    for (int i, count; worker.Take(batch_->num_rows() * heads, heads, i, count);) {
      for (std::int32_t k = i; k < i + count; ++k) AppendRow(layer, k / heads, k % heads);
    }
    worker.Barrier();
  }
  const auto num_units = static_cast<std::int32_t>(attention_.units.size());
  for (int i, count; worker.Take(num_units, 1, i, count);) {
    const AttentionUnit& unit = attention_.units[i];
    const std::int32_t own_block = batch_->positions[unit.first_row] / kAttentionBlock;
    if (fused && own_block < unit.last_block) AppendRow(layer, unit.first_row, unit.kv_head);
    AttendUnit(*own_[worker.index()], layer, unit);
  }
  worker.Barrier();
  if (!attention_.split) return;
  const std::int32_t q_heads = config_.num_q_heads;
  for (int i, count; worker.Take(batch_->num_rows() * q_heads, 1, i, count);) FoldRow(i / q_heads, i % q_heads);
  worker.Barrier();
}

void Forward::AttendUnit(Private& own, std::int32_t layer, const AttentionUnit& unit) {
  const PackedLayer& weights = packed_.layers()[layer];
  const std::int32_t dim = config_.head_dim;
  const std::int32_t group = config_.num_q_heads / config_.num_kv_heads;
  const std::int32_t first_head = unit.kv_head * group;
  const float scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(dim)));
  for (std::int32_t r = 0; r < unit.num_rows; ++r) {
    const std::int32_t row = unit.first_row + r;
    const float* q = qkv_.data() + std::int64_t{row} * (q_dim_ + 2 * kv_dim_) + first_head * dim;
    float* queries = own.queries.data() + std::int64_t{r} * group * dim;
    std::copy(q, q + group * dim, queries);
    PrepareHeads(queries, group, weights.bq, first_head, weights.q_norm, batch_->positions[row], scale);
    std::fill_n(own.lengths.begin() + r * group, group, batch_->positions[row] + 1);
  }
  AttendCall call;
  call.kv = kv_.Planes(layer, unit.kv_head, batch_->page_tables[unit.first_row]);
  call.queries = own.queries.data();
  call.lengths = own.lengths.data();
  call.num_queries = unit.num_rows * group;
  call.first_block = unit.first_block;
  call.last_block = unit.last_block;
  call.scratch = {own.keys.data(), own.block_values.data(), own.scores.data(), own.states.data()};
  const std::int64_t state = StateFloats(dim);
  if (attention_.split) {
    const std::int64_t blocks = (shape_.max_context + kAttentionBlock - 1) / kAttentionBlock;
    call.partial_stride = blocks * state;
    call.partials =
        partials_.data() + (std::int64_t{unit.first_row} * config_.num_q_heads + first_head) * blocks * state;
    kernels_.attend(call);
    return;
  }
  kernels_.attend(call);
  for (std::int32_t i = 0; i < call.num_queries; ++i) {
    const std::int64_t row = unit.first_row + i / group;
    kernels_.finish(own.states.data() + i * state, dim,
                    attended_.data() + row * q_dim_ + (first_head + i % group) * dim);
  }
}

void Forward::FoldRow(std::int32_t row, std::int32_t q_head) {
  const std::int32_t dim = config_.head_dim;
  const std::int64_t state = StateFloats(dim);
  const std::int64_t blocks = (shape_.max_context + kAttentionBlock - 1) / kAttentionBlock;
  float* states = partials_.data() + (std::int64_t{row} * config_.num_q_heads + q_head) * blocks * state;
  const std::int32_t last = batch_->positions[row] / kAttentionBlock;
  for (std::int32_t b = 1; b <= last; ++b) kernels_.fold(states, states + b * state, dim, false);
  kernels_.finish(states, dim, attended_.data() + std::int64_t{row} * q_dim_ + q_head * dim);
}

}  // namespace megakernel::cpu
