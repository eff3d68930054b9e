#include "kernels/host/program_build.h"

#include <algorithm>
#include <cmath>

#include "kernels/host/placement.h"

namespace megakernel::host {
namespace {

using layout::Program;

constexpr std::int32_t kMaxQueriesPerGroup = 8;  // query heads of a KV head: the columns of attention's products

// "name value: limit".
std::string Refusal(const char* name, std::int64_t value, const std::string& limit) {
  return std::string(name) + " " + std::to_string(value) + ": " + limit;
}

std::string Range(std::int64_t low, std::int64_t high) {
  return "must be from " + std::to_string(low) + " to " + std::to_string(high);
}

std::string Divisors(std::int32_t value) {
  std::string list;
  for (std::int32_t d = 1; d <= value; ++d) {
    if (value % d == 0) list += (list.empty() ? "" : ", ") + std::to_string(d);
  }
  return list;
}

// What the kernel cannot run of a model's sizes; empty when it can run them.
std::string RefusedShape(const reference::ModelView& model) {
  const reference::Shape& s = model.shape;
  if (s.num_layers < 1) return Refusal("num_layers", s.num_layers, "must be at least 1");
  if (model.layers.size() != static_cast<std::size_t>(s.num_layers)) {
    return Refusal("num_layers", s.num_layers, "the model has " + std::to_string(model.layers.size()) + " layers");
  }
  if (s.vocab < 1) return Refusal("vocab", s.vocab, "must be at least 1");
  if (s.head_dim != 64 && s.head_dim != 128) return Refusal("head_dim", s.head_dim, "must be 64 or 128");
  if (s.num_q_heads < 1) return Refusal("num_q_heads", s.num_q_heads, "must be at least 1");
  if (s.num_kv_heads < 1 || s.num_q_heads % s.num_kv_heads != 0) {
    return Refusal("num_kv_heads", s.num_kv_heads,
                   "must divide num_q_heads " + std::to_string(s.num_q_heads) + ": " + Divisors(s.num_q_heads));
  }
  const std::int32_t queries = s.num_q_heads / s.num_kv_heads;
  if (queries > kMaxQueriesPerGroup) {
    return Refusal("query heads per KV head", queries, Range(1, kMaxQueriesPerGroup));
  }
  if (s.hidden < 64 || s.hidden % 64 != 0 || s.hidden > layout::kMostHidden) {
    return Refusal("hidden", s.hidden, "must be a multiple of 64 up to " + std::to_string(layout::kMostHidden));
  }
  if (s.ffn < 1 || s.ffn % (64 * s.num_kv_heads) != 0) {
    return Refusal("ffn", s.ffn,
                   "must be a multiple of " + std::to_string(64 * s.num_kv_heads) + " (64 for each of " +
                       std::to_string(s.num_kv_heads) + " KV heads)");
  }
  return "";
}

// What is wrong with the options, for a model that RefusedShape accepts; empty when nothing is.
std::string RefusedOption(const reference::Shape& s, const DeviceLimits& device, const ProgramOptions& o) {
  // Each KV head has a block, and row r of a step is sampled by block r.
  const std::int32_t least = std::max(s.num_kv_heads, layout::kGpuMaxRows);
  if (device.num_sms < least) {
    return Refusal("num_sms", device.num_sms,
                   "must be at least " + std::to_string(least) + ", a block for each KV head and each row");
  }
  if (o.persistent_blocks != 0 && (o.persistent_blocks < least || o.persistent_blocks > device.num_sms)) {
    return Refusal("persistent_blocks", o.persistent_blocks,
                   "must be 0 (one per SM) or from " + std::to_string(least) + " (KV heads, rows of a step) to " +
                       std::to_string(device.num_sms) + " (SMs)");
  }
  if (o.max_lanes < 1 || o.max_lanes > layout::kMaxLanes) {
    return Refusal("max_lanes", o.max_lanes, Range(1, layout::kMaxLanes));
  }
  if (o.max_context < 1 || o.max_context > kMaxContext) {
    return Refusal("max_context", o.max_context, Range(1, kMaxContext));
  }
  if (o.page_tokens < layout::kAttentionBlock || (o.page_tokens & (o.page_tokens - 1)) != 0 ||
      o.page_tokens > kMaxContext) {
    return Refusal("page_tokens", o.page_tokens,
                   "must be a power of two from " + std::to_string(layout::kAttentionBlock) + " to " +
                       std::to_string(kMaxContext));
  }
  if (o.num_kv_pages < 0) {
    return Refusal("num_kv_pages", o.num_kv_pages, "must be 0 (pages for every lane) or positive");
  }
  if (o.window_layers < 1 || o.window_layers > kLeastSlots) {
    return Refusal("window_layers", o.window_layers, Range(1, kLeastSlots));
  }
  if (o.window_head < 1 || o.window_head > kLeastSlots) {
    return Refusal("window_head", o.window_head, Range(1, kLeastSlots));
  }
  return "";
}

void SetModel(const reference::ModelView& model, Program& p) {
  const reference::Shape& s = model.shape;
  p.num_layers = s.num_layers;
  p.hidden = s.hidden;
  p.groups = s.num_kv_heads;
  p.q_per_kv = s.num_q_heads / s.num_kv_heads;
  p.head_dim = s.head_dim;
  p.ffn = s.ffn;
  p.vocab = s.vocab;
  p.qk_norm = model.layers[0].q_norm ? 1 : 0;
  p.qkv_bias = model.layers[0].bq ? 1 : 0;
  p.rms_eps = static_cast<float>(s.rms_eps);
  p.score_scale = static_cast<float>(1.4426950408889634 / std::sqrt(static_cast<double>(s.head_dim)));
}

void SetSizes(const DeviceLimits& device, const ProgramOptions& o, Program& p) {
  p.max_context = o.max_context;
  p.num_blocks = o.persistent_blocks > 0 ? o.persistent_blocks : device.num_sms;
  p.blocks_per_group = p.num_blocks / p.groups;
  p.max_rows = layout::kGpuMaxRows;
  p.max_lanes = o.max_lanes;
  p.max_pages = layout::PagesFor(o.max_context, o.page_tokens);
  p.max_items = p.max_rows * layout::PagesFor(o.max_context, layout::kAttentionBlock);
  p.window_layers = o.window_layers;
  p.window_head = o.window_head;
  p.kv = {o.kv_layout, p.num_layers, p.groups, p.head_dim, o.page_tokens, 2};
  p.kv_strides.page = p.kv.PageBytes();
  p.kv_strides.value = p.kv.PlaneElements() * p.kv.element_bytes;
  p.kv_strides.layer = 2 * p.kv_strides.value;
  p.kv_strides.slot = static_cast<std::int32_t>(p.kv.SlotStride() * p.kv.element_bytes);
  p.kv_strides.head = static_cast<std::int32_t>(p.kv.Offset(0, false, 1, 0) * p.kv.element_bytes);
  while (1 << p.kv_strides.page_log2 < o.page_tokens) ++p.kv_strides.page_log2;
  p.num_kv_pages = o.num_kv_pages > 0 ? o.num_kv_pages : p.max_lanes * p.max_pages;
}

// Sizes, grid and all places; false when shared memory does not hold them.
bool Place(const reference::ModelView& model, const DeviceLimits& device, const ProgramOptions& options, Program& p) {
  p = Program{};
  SetModel(model, p);
  SetSizes(device, options, p);
  PlaceWeights(model.lm_head.data == model.embedding.data, p);
  PlaceWorkspace(p);
  return PlaceShared(device.shared_bytes, p);
}

}  // namespace

std::int32_t LargestFittingGrid(const reference::ModelView& model, const DeviceLimits& device, ProgramOptions options) {
  if (!RefusedShape(model).empty()) return 0;
  Program p;
  options.persistent_blocks = device.num_sms;
  while (options.persistent_blocks >= std::max(model.shape.num_kv_heads, layout::kGpuMaxRows)) {
    if (Place(model, device, options, p)) return options.persistent_blocks;
    --options.persistent_blocks;
  }
  return 0;
}

bool BuildProgram(const reference::ModelView& model, const DeviceLimits& device, const ProgramOptions& options,
                  Program& program, std::string& error) {
  error = RefusedShape(model);
  if (error.empty()) error = RefusedOption(model.shape, device, options);
  if (!error.empty()) return false;
  if (Place(model, device, options, program)) return true;
  const std::int32_t fitting = LargestFittingGrid(model, device, options);
  error = Refusal("shared memory", device.shared_bytes,
                  "a block needs " + std::to_string(program.shared.total) + " bytes with max_context " +
                      std::to_string(options.max_context) + ", persistent_blocks " +
                      std::to_string(program.num_blocks) + " and " + std::to_string(kLeastSlots) + " weight slots; " +
                      (fitting > 0 ? "persistent_blocks " + std::to_string(fitting) + " would fit"
                                   : "no persistent_blocks would fit"));
  return false;
}

}  // namespace megakernel::host
