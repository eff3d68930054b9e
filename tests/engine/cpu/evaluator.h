// The forward pass without lanes and sampling: logits of all positions of a sequence.
#pragma once

#include <algorithm>
#include <memory>
#include <span>
#include <vector>

#include "engine/cpu/forward.h"
#include "engine/cpu/isa.h"
#include "engine/cpu/processor_count.h"
#include "engine/model/model.h"

namespace megakernel::test {

struct EvaluatorOptions {
  bool fp32 = false;     // all weights and activations
  bool fp32_kv = false;  // else fp16
  CpuIsa isa = CpuIsa::kAuto;
};

// Up to 512 positions. `model` must outlive it.
class Evaluator {
 public:
  Evaluator(const Model& model, const EvaluatorOptions& options)
      : config_(model.config()), team_(std::min(cpu::UsableProcessors(), 4)) {
    packed_ = std::make_unique<cpu::PackedModel>(*cpu::PackedModel::Pack(model, options.fp32, team_));
    const layout::KvGeometry geometry = {
        layout::KvLayout::kHeadMajor, config_.num_layers, config_.num_kv_heads, config_.head_dim, 64,
        options.fp32_kv ? 4 : 2};
    kv_ = std::make_unique<cpu::KvStore>(*cpu::KvStore::Create(geometry, kPages));
    forward_ =
        *cpu::Forward::Create(model, *packed_, **cpu::KernelsFor(options.isa), *kv_,
                              {.max_rows = kPages * 64, .max_context = kPages * 64, .num_threads = team_.size()});
    for (PageId page = 0; page < kPages; ++page) pages_.push_back(page);
  }

  // Calls visit(position, logits) for positions from `first` on.
  template <class Visit>
  void Run(const std::vector<TokenId>& tokens, std::int32_t first, Visit visit) {
    cpu::Batch batch;
    const auto count = static_cast<std::int32_t>(tokens.size());
    batch.Add(tokens.data(), {0, count, 0, pages_.data()});
    forward_->Begin(batch);
    std::vector<std::int32_t> rows(static_cast<std::size_t>(count));
    for (std::int32_t i = 0; i < count; ++i) rows[i] = i;
    team_.Run([&](cpu::Worker& worker) {
      forward_->RunLayers(worker);
      for (std::int32_t from = first; from < count; from += cpu::kLogitRows) {
        const std::int32_t n = std::min(cpu::kLogitRows, count - from);
        forward_->Logits(worker, std::span(rows).subspan(from, n));
        if (worker.index() == 0) {
          for (std::int32_t i = 0; i < n; ++i) visit(from + i, forward_->LogitsOf(i));
        }
        worker.Barrier();
      }
    });
  }

 private:
  static constexpr std::int32_t kPages = 8;
  const ModelConfig& config_;
  cpu::ThreadTeam team_;
  std::unique_ptr<cpu::PackedModel> packed_;
  std::unique_ptr<cpu::KvStore> kv_;
  std::unique_ptr<cpu::Forward> forward_;
  std::vector<PageId> pages_;
};

}  // namespace megakernel::test
