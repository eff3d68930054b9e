#include "engine/executor/command_check.h"

#include <variant>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace megakernel {
namespace {

absl::Status OutOfRange(const char* what, std::int64_t value, std::int64_t low, std::int64_t high) {
  return absl::InvalidArgumentError(absl::StrCat(what, " is ", value, ", not in [", low, ", ", high, "]"));
}

absl::Status CheckRange(const char* what, std::int64_t value, std::int64_t low, std::int64_t high) {
  return value >= low && value <= high ? absl::OkStatus() : OutOfRange(what, value, low, high);
}

}  // namespace

absl::Status CommandCheck::Check(const Command& command) {
  if (const auto* admit = std::get_if<Admit>(&command)) return CheckAdmit(*admit);
  if (const auto* grant = std::get_if<GrantPages>(&command)) {
    MK_RETURN_IF_ERROR(CheckLane(grant->lane));
    return CheckPages(grant->pages);
  }
  if (const auto* cancel = std::get_if<Cancel>(&command)) return CheckLane(cancel->lane);
  if (const auto* copy = std::get_if<CopyPage>(&command)) {
    MK_RETURN_IF_ERROR(CheckPage(copy->source));
    return CheckPage(copy->target);
  }
  if (const auto* read = std::get_if<ReadPages>(&command)) return CheckTransfer(read->pages);
  if (const auto* write = std::get_if<WritePages>(&command)) {
    MK_RETURN_IF_ERROR(CheckTransfer(write->pages));
    const std::int64_t expected = static_cast<std::int64_t>(write->pages.size()) * info_.page_bytes;
    return CheckRange("number of page bytes", static_cast<std::int64_t>(write->bytes.size()), expected, expected);
  }
  if (const auto* set = std::get_if<SetPolicy>(&command)) {
    MK_RETURN_IF_ERROR(CheckRange("policy.max_rows", set->policy.max_rows, 1, layout::kMaxRows));
    MK_RETURN_IF_ERROR(CheckRange("policy.prompt_rows_idle", set->policy.prompt_rows_idle, 1, layout::kMaxRows));
    return CheckRange("policy.prompt_rows_busy", set->policy.prompt_rows_busy, 0, layout::kMaxRows);
  }
  return absl::OkStatus();
}

absl::Status CommandCheck::CheckTransfer(const std::vector<PageId>& pages) const {
  if (info_.page_format.empty()) return absl::UnimplementedError("this executor transfers no pages");
  return CheckPages(pages);
}

absl::Status CommandCheck::CheckAdmit(const Admit& admit) {
  MK_RETURN_IF_ERROR(CheckLane(admit.lane));
  if (lanes_[admit.lane]) {
    return absl::InvalidArgumentError(absl::StrCat("lane ", admit.lane, " still holds a sequence"));
  }
  const auto num_tokens = static_cast<std::int64_t>(admit.tokens.size());
  MK_RETURN_IF_ERROR(CheckRange("token_limit", admit.token_limit, 1, info_.max_context));
  MK_RETURN_IF_ERROR(
      CheckRange("number of tokens", num_tokens, 1, admit.prefill_only ? admit.token_limit : admit.token_limit - 1));
  MK_RETURN_IF_ERROR(CheckTokens("token", admit.tokens));
  MK_RETURN_IF_ERROR(CheckRange("kv_length", admit.kv_length, 0, num_tokens - 1));
  MK_RETURN_IF_ERROR(CheckRange("output_start", admit.output_start, 0, num_tokens));
  MK_RETURN_IF_ERROR(CheckPages(admit.pages));
  MK_RETURN_IF_ERROR(
      CheckRange("kv_length", admit.kv_length, 0, static_cast<std::int64_t>(admit.pages.size()) * info_.page_tokens));
  MK_RETURN_IF_ERROR(CheckTokens("allowed token", admit.sampling.allowed_tokens));
  MK_RETURN_IF_ERROR(CheckTokens("stop token", admit.sampling.stop_tokens));
  for (const auto& [token, bias] : admit.sampling.logit_bias) {
    MK_RETURN_IF_ERROR(CheckRange("logit_bias token", token, 0, info_.vocab - 1));
  }
  lanes_[admit.lane] = true;
  return absl::OkStatus();
}

absl::Status CommandCheck::CheckTokens(const char* what, const std::vector<TokenId>& tokens) const {
  for (TokenId token : tokens) MK_RETURN_IF_ERROR(CheckRange(what, token, 0, info_.vocab - 1));
  return absl::OkStatus();
}

absl::Status CommandCheck::CheckPages(const std::vector<PageId>& pages) const {
  for (PageId page : pages) MK_RETURN_IF_ERROR(CheckPage(page));
  return absl::OkStatus();
}

absl::Status CommandCheck::CheckLane(std::int32_t lane) const {
  return CheckRange("lane", lane, 0, info_.max_lanes - 1);
}

absl::Status CommandCheck::CheckPage(PageId page) const {
  return CheckRange("page", page, 0, info_.num_pages - 1);
}

}  // namespace megakernel
