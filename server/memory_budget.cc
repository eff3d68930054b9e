#include "server/memory_budget.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <limits>
#include <optional>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "server/option_values.h"

namespace megakernel {
namespace {

constexpr std::int64_t kUnlimited = std::numeric_limits<std::int64_t>::max();
constexpr std::int32_t kMinTokens = 256;  // a server that cannot hold one short conversation is of no use

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// The whole number at the start of `text`; nothing for "max" or a missing file.
std::optional<std::int64_t> Number(const std::string& text) {
  std::int64_t value = 0;
  const char* begin = text.data() + std::min(text.find_first_not_of(' '), text.size());
  if (std::from_chars(begin, text.data() + text.size(), value).ec != std::errc()) return std::nullopt;
  return value;
}

// The number after `key` in lines of "key value".
std::int64_t Field(const std::string& text, const std::string& key) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(key)) return Number(line.substr(key.size())).value_or(0);
  }
  return 0;
}

// What the control group in `directory` leaves.
std::int64_t GroupLeaves(const std::string& directory, const char* limit_file, const char* usage_file,
                         const char* cache_field) {
  const std::optional<std::int64_t> limit = Number(ReadFile(directory + limit_file));
  const std::optional<std::int64_t> usage = Number(ReadFile(directory + usage_file));
  if (!limit || !usage) return kUnlimited;
  const std::int64_t cache = Field(ReadFile(directory + "/memory.stat"), cache_field);
  return std::max<std::int64_t>(0, *limit - std::max<std::int64_t>(0, *usage - cache));
}

// The smallest of `group` and all groups above it.
template <typename Leaves>
std::int64_t SmallestUpwards(const std::string& mount, std::string group, const Leaves& leaves) {
  std::int64_t least = leaves(mount);
  while (!group.empty() && group != "/") {
    least = std::min(least, leaves(mount + group));
    group.resize(group.rfind('/'));
  }
  return least;
}

std::int64_t ControlGroupsLeave(const std::string& root) {
  const auto version2 = [](const std::string& directory) {
    return GroupLeaves(directory, "/memory.max", "/memory.current", "inactive_file ");
  };
  const auto version1 = [](const std::string& directory) {
    return GroupLeaves(directory, "/memory.limit_in_bytes", "/memory.usage_in_bytes", "total_inactive_file ");
  };
  std::int64_t least = kUnlimited;
  std::istringstream lines(ReadFile(root + "/proc/self/cgroup"));
  for (std::string line; std::getline(lines, line);) {  // "id:controllers:path"
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string group = line.substr(second + 1);
    if (controllers.empty()) {
      least = std::min(least, SmallestUpwards(root + "/sys/fs/cgroup", group, version2));
    } else if (absl::StrCat(",", controllers, ",").find(",memory,") != std::string::npos) {
      least = std::min(least, SmallestUpwards(root + "/sys/fs/cgroup/memory", group, version1));
    }
  }
  return least;
}

}  // namespace

std::int64_t AvailableMemory(const std::string& root) {
  const std::int64_t system = Field(ReadFile(root + "/proc/meminfo"), "MemAvailable:") * 1024;
  return std::min(system, ControlGroupsLeave(root));
}

absl::StatusOr<std::int64_t> KvBudget(const MemoryRequest& request, std::int64_t available) {
  const auto too_little = [&](std::int64_t kv, std::int64_t tokens) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "too little memory: weights of ", HumanBytes(request.weight_bytes), " and keys and values of ", HumanBytes(kv),
        " (", tokens, " tokens) need ", HumanBytes(request.weight_bytes + kv), ", available are ",
        HumanBytes(available), "; lower --kv-memory or --max-context, or give the process more memory"));
  };
  const std::int64_t per_token = request.kv_bytes_per_token;
  if (request.kv_memory > 0) {
    if (request.weight_bytes + request.kv_memory > available) {
      return too_little(request.kv_memory, request.kv_memory / per_token);
    }
    return request.kv_memory;
  }
  const std::int64_t least_tokens = std::min(kMinTokens, request.max_context);
  const std::int64_t rest = available - request.weight_bytes;
  if (rest < least_tokens * per_token) return too_little(least_tokens * per_token, least_tokens);
  const std::int64_t useful = std::int64_t{request.max_sequences} * request.max_context * per_token;
  return std::clamp(rest / 2, least_tokens * per_token, std::max(useful, least_tokens * per_token));
}

std::int64_t KvBytesPerToken(const ModelConfig& config, int element_bytes) {
  return std::int64_t{2} * config.num_layers * config.num_kv_heads * config.head_dim * element_bytes;
}

std::int64_t Fp32WeightBytes(const Model& model) {
  const ModelWeights& weights = model.weights();
  const auto floats = [](std::initializer_list<const TensorView*> tensors) {
    std::int64_t count = 0;
    for (const TensorView* tensor : tensors) count += tensor->rows * tensor->cols;
    return count;
  };
  std::int64_t count = floats({&weights.embedding, &weights.final_norm});
  if (!model.config().tied_embedding) count += floats({&weights.lm_head});
  for (const LayerWeights& layer : weights.layers) {
    count +=
        floats({&layer.attention_norm, &layer.wq, &layer.wk, &layer.wv, &layer.bq, &layer.bk, &layer.bv, &layer.q_norm,
                &layer.k_norm, &layer.wo, &layer.ffn_norm, &layer.w_gate, &layer.w_up, &layer.w_down});
  }
  return count * 4;
}

}  // namespace megakernel
