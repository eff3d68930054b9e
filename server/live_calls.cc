#include "server/live_calls.h"

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/core/error.h"

namespace megakernel {

absl::Status NotReadError(absl::Duration limit) {
  return MakeError(absl::StatusCode::kResourceExhausted, ErrorReason::kSlowConsumer,
                   absl::StrCat("the client has read nothing for ", absl::FormatDuration(limit)));
}

void LiveCalls::Add(const std::shared_ptr<LiveCall>& call) {
  {
    MutexLock lock(&mutex_);
    calls_.emplace(call.get(), call);
    if (!draining_) return;
  }
  call->OnDrain();
}

void LiveCalls::Remove(const LiveCall* call) {
  MutexLock lock(&mutex_);
  calls_.erase(call);
}

void LiveCalls::Drain() {
  std::vector<std::shared_ptr<LiveCall>> calls;  // called without the lock: a call that ends removes itself
  {
    MutexLock lock(&mutex_);
    if (draining_) return;
    draining_ = true;
    calls = All();
  }
  for (const auto& call : calls) call->OnDrain();
}

void LiveCalls::Fail(const absl::Status& status) {
  std::vector<std::shared_ptr<LiveCall>> calls;
  {
    MutexLock lock(&mutex_);
    calls = All();
  }
  for (const auto& call : calls) call->OnFailure(status);
}

void LiveCalls::Tick() {
  std::vector<std::shared_ptr<LiveCall>> calls;
  {
    MutexLock lock(&mutex_);
    calls = All();
  }
  for (const auto& call : calls) call->OnTick();
}

std::vector<std::shared_ptr<LiveCall>> LiveCalls::All() const {
  std::vector<std::shared_ptr<LiveCall>> calls;
  for (const auto& [key, weak] : calls_) {
    if (auto call = weak.lock()) calls.push_back(std::move(call));
  }
  return calls;
}

bool LiveCalls::WaitEmpty(absl::Duration timeout) {
  MutexLock lock(&mutex_);
  const auto empty = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return calls_.empty(); };
  return mutex_.AwaitWithTimeout(empty, timeout);
}

std::size_t LiveCalls::size() const {
  MutexLock lock(&mutex_);
  return calls_.size();
}

}  // namespace megakernel
