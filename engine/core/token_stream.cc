#include "engine/core/token_stream.h"

#include <algorithm>
#include <utility>

#include "engine/base/check.h"

namespace megakernel {

void ChoiceUpdate::Clear() {
  tokens.clear();
  text.clear();
  logprobs.clear();
  finished.reset();
}

void StreamUpdate::Clear() {
  started.reset();
  prompt_logprobs.clear();
  for (ChoiceUpdate& choice : choices) choice.Clear();
  drained_at = absl::InfiniteFuture();
  done = false;
}

TokenStream::TokenStream(int num_choices, int buffer_tokens, std::function<void()> on_cancel)
    : num_choices_(num_choices),
      buffer_tokens_(buffer_tokens),
      on_cancel_(std::move(on_cancel)),
      unfinished_(num_choices) {
  MutexLock lock(&mutex_);
  pending_.choices.resize(num_choices);
}

bool TokenStream::Pop(StreamUpdate& update) {
  update.Clear();
  update.choices.resize(num_choices_);
  MutexLock lock(&mutex_);
  if (!has_pending_) {
    armed_ = true;
    return false;
  }
  std::swap(update, pending_);
  update.done = unfinished_ == 0;
  has_pending_ = false;
  pending_tokens_ = 0;
  return true;
}

void TokenStream::SetWake(std::function<void()> wake) {
  MutexLock lock(&mutex_);
  MK_CHECK(!wake_);
  wake_ = std::move(wake);
  if (has_pending_) Wake();
}

void TokenStream::Detach() {
  {
    MutexLock lock(&mutex_);
    detached_ = true;
    if (waking_thread_ != std::this_thread::get_id()) AwaitQuiet();
    if (unfinished_ == 0) return;
  }
  Cancel();
}

void TokenStream::AwaitQuiet() {
  const auto quiet = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !waking_; };
  mutex_.Await(quiet);
}

void TokenStream::Cancel() {
  if (!cancelled_.exchange(true, std::memory_order_acq_rel)) on_cancel_();
}

bool TokenStream::PushToken(int choice, TokenId token, std::string_view text, std::unique_ptr<Logprobs> logprobs,
                            absl::Time drained_at) {
  MutexLock lock(&mutex_);
  if (pending_tokens_ >= buffer_tokens_) return false;
  ++pending_tokens_;
  ChoiceUpdate& update = pending_.choices[choice];
  update.tokens.push_back(token);
  update.text.append(text);
  if (logprobs != nullptr) update.logprobs.push_back(std::move(*logprobs));
  Pushed(drained_at);
  return true;
}

void TokenStream::PushStarted(Started started, absl::Time drained_at) {
  MutexLock lock(&mutex_);
  pending_.started = std::move(started);
  Pushed(drained_at);
}

void TokenStream::PushPromptLogprob(PromptLogprob logprob, absl::Time drained_at) {
  MutexLock lock(&mutex_);
  pending_.prompt_logprobs.push_back(std::move(logprob));
  Pushed(drained_at);
}

void TokenStream::PushFinished(int choice, std::string_view text, Finished finished, absl::Time drained_at) {
  MutexLock lock(&mutex_);
  ChoiceUpdate& update = pending_.choices[choice];
  MK_CHECK(!update.finished.has_value() && unfinished_ > 0);
  update.text.append(text);
  update.finished = std::move(finished);
  --unfinished_;
  Pushed(drained_at);
}

void TokenStream::Pushed(absl::Time drained_at) {
  has_pending_ = true;
  pending_.drained_at = std::min(pending_.drained_at, drained_at);
  if (wake_) Wake();
}

// The wake function runs without the lock, so that it may pop. Detach waits for it; the thread id lets it detach
// itself. Two wakes can only meet when SetWake's own call overlaps a push: the second waits.
void TokenStream::Wake() {
  if (!armed_) return;
  AwaitQuiet();
  if (!armed_ || detached_) return;
  armed_ = false;
  waking_ = true;
  waking_thread_ = std::this_thread::get_id();
  mutex_.Unlock();
  wake_();
  mutex_.Lock();
  waking_ = false;
  waking_thread_ = std::thread::id();
}

}  // namespace megakernel
