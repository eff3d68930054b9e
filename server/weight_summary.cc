#include "server/weight_summary.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace megakernel {

std::string TensorTypeCounts(const ModelWeights& weights) {
  std::map<TensorType, int> counts;
  const auto count = [&counts](const TensorView& tensor) {
    if (tensor) ++counts[tensor.type];
  };
  count(weights.embedding);
  count(weights.final_norm);
  if (weights.lm_head.data != weights.embedding.data) count(weights.lm_head);
  for (const LayerWeights& layer : weights.layers) {
    for (const TensorView* tensor :
         {&layer.attention_norm, &layer.wq, &layer.wk, &layer.wv, &layer.bq, &layer.bk, &layer.bv, &layer.q_norm,
          &layer.k_norm, &layer.wo, &layer.ffn_norm, &layer.w_gate, &layer.w_up, &layer.w_down}) {
      count(*tensor);
    }
  }
  std::vector<std::pair<TensorType, int>> sorted(counts.begin(), counts.end());
  std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  return absl::StrJoin(sorted, " ", [](std::string* text, const auto& entry) {
    absl::StrAppend(text, TensorTypeName(entry.first), ":", entry.second);
  });
}

}  // namespace megakernel
