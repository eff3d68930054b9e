// Messages on their way into one stream: one write in flight, and after them the status, once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "server/stream_transport.h"
#include "server/write_latency.h"

namespace megakernel {

// Not thread-safe: part of a state machine, used under its lock. `transport` outlives everything but its own OnDone.
template <typename Message>
class Outbox {
 public:
  Outbox(StreamTransport<Message>& transport, const Clock& clock, WriteLatency& latency)
      : transport_(transport), clock_(clock), latency_(latency) {}

  // An empty message behind the others, to be filled before Send. `tokens` of them were drained at `drained_at`.
  // REQUIRES: !ending().
  Message& Add(std::int64_t tokens = 0, absl::Time drained_at = absl::InfinitePast()) {
    MK_CHECK(!ending());
    // Entries behind the queue are kept for their memory.
    if (first_ + size_ == entries_.size()) entries_.emplace_back();
    Entry& entry = entries_[first_ + size_++];
    entry.message.Clear();
    entry.tokens = tokens;
    entry.drained_at = drained_at;
    return entry.message;
  }

  // The status after what was added. The first one counts.
  void End(absl::Status status) {
    if (!status_) status_ = std::move(status);
  }

  // The same, dropping what was not sent.
  void Abandon(absl::Status status) {
    if (!status_ || status_->ok()) status_ = std::move(status);
    size_ = in_flight_ ? 1 : 0;
  }

  // The client has taken nothing for longer than `limit`, though something is on its way to it.
  bool Stuck(absl::Duration limit) const { return (in_flight_ || finished_) && clock_.Now() - sent_at_ > limit; }
  // Abandons and ends the call though the client does not read.
  void Abort(absl::Status status) {
    Abandon(std::move(status));
    transport_.Abort();
  }

  // Starts what can be started.
  void Send() {
    if (in_flight_ || finished_) return;
    if (size_ == 0 && !status_) return;
    sent_at_ = clock_.Now();
    if (size_ == 0) {
      finished_ = true;
      transport_.Finish(*status_);
    } else if (size_ == 1 && status_ && status_->ok()) {
      finished_ = true;
      transport_.StartWriteAndFinish(entries_[first_].message);
    } else {
      // A first message that may wait in a buffer would wait for ever: the initial metadata are in the same batch.
      const bool more = size_ > 1 && any_sent_;
      in_flight_ = true;
      any_sent_ = true;
      transport_.StartWrite(entries_[first_].message, more);
    }
  }

  // The write ended. After one that failed nothing can be sent: the rest is dropped.
  void OnWriteDone(bool ok) {
    MK_CHECK(in_flight_);
    const Entry& entry = entries_[first_];
    in_flight_ = false;
    if (!ok) {
      Abandon(absl::CancelledError("the client has gone"));
    } else {
      if (entry.tokens > 0) latency_.Record(clock_.Now() - entry.drained_at, entry.tokens);
      ++first_;
      --size_;
    }
    if (size_ == 0) first_ = 0;
  }

  bool busy() const { return in_flight_ || size_ > 0; }
  std::size_t size() const { return size_; }
  // End or Abandon was called: nothing may be added.
  bool ending() const { return status_.has_value(); }
  // The status is on its way.
  bool finished() const { return finished_; }
  // OK while there is none.
  absl::Status status() const { return status_.value_or(absl::OkStatus()); }

 private:
  struct Entry {
    Message message;
    std::int64_t tokens = 0;
    absl::Time drained_at;
  };

  StreamTransport<Message>& transport_;
  const Clock& clock_;
  WriteLatency& latency_;
  std::deque<Entry> entries_;  // [first_, first_ + size_) wait; the one at first_ may be in flight
  std::size_t first_ = 0;
  std::size_t size_ = 0;
  bool in_flight_ = false;
  bool any_sent_ = false;
  bool finished_ = false;
  absl::Time sent_at_;  // when the last write or the status was started
  std::optional<absl::Status> status_;
};

}  // namespace megakernel
