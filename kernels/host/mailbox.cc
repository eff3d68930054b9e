#include "kernels/host/mailbox.h"

#include <algorithm>
#include <atomic>
#include <cstring>

namespace megakernel::host {
namespace {

constexpr std::size_t kAlignment = 128;

class Places {
 public:
  template <class T>
  std::size_t Place(std::int64_t count) {
    const std::size_t place = end_;
    end_ += (static_cast<std::size_t>(count) * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    return place;
  }
  std::size_t end() const { return end_; }

 private:
  std::size_t end_ = 0;
};

struct Offsets {
  explicit Offsets(const layout::Program& p) {
    Places places;
    control = places.Place<layout::MailboxControl>(1);
    commands = places.Place<layout::CommandLine>(layout::kCommandLines);
    events = places.Place<layout::EventLine>(layout::kEventLines);
    tokens = places.Place<std::int32_t>(std::int64_t{p.max_lanes} * p.max_context);
    pages = places.Place<std::int32_t>(std::int64_t{p.max_lanes} * p.max_pages);
    stops = places.Place<std::int32_t>(std::int64_t{p.max_lanes} * layout::kMaxStopTokens);
    total = places.end();
  }
  std::size_t control, commands, events, tokens, pages, stops, total;
};

std::uint64_t LoadAcquire(const std::uint64_t& word) {
  return std::atomic_ref<std::uint64_t>(const_cast<std::uint64_t&>(word)).load(std::memory_order_acquire);
}
void StoreRelease(std::uint64_t& word, std::uint64_t value) {
  std::atomic_ref<std::uint64_t>(word).store(value, std::memory_order_release);
}

}  // namespace

std::size_t MailboxBytes(const layout::Program& program) {
  return Offsets(program).total;
}

MailboxMemory PlaceMailbox(const layout::Program& program, std::byte* base) {
  const Offsets at(program);
  MailboxMemory memory;
  memory.control = reinterpret_cast<layout::MailboxControl*>(base + at.control);
  memory.commands = reinterpret_cast<layout::CommandLine*>(base + at.commands);
  memory.events = reinterpret_cast<layout::EventLine*>(base + at.events);
  memory.tokens = reinterpret_cast<std::int32_t*>(base + at.tokens);
  memory.pages = reinterpret_cast<std::int32_t*>(base + at.pages);
  memory.stops = reinterpret_cast<std::int32_t*>(base + at.stops);
  memory.max_context = program.max_context;
  memory.max_pages = program.max_pages;
  return memory;
}

std::uint64_t Mailbox::Consumed() const {
  return LoadAcquire(memory_.control->commands_consumed);
}

void Mailbox::Write(const layout::CommandLine& command) {
  layout::CommandLine& line = memory_.commands[(next_command_ - 1) % layout::kCommandLines];
  // All but the sequence, which is the last member and tells that the rest is there.
  static_assert(offsetof(layout::CommandLine, sequence) + sizeof(std::uint64_t) == sizeof(layout::CommandLine));
  std::memcpy(static_cast<void*>(&line), &command, offsetof(layout::CommandLine, sequence));
  StoreRelease(line.sequence, next_command_++);
}

void Mailbox::Send(const layout::CommandLine& command) {
  waiting_.push_back(command);
  Flush();
}

void Mailbox::Flush() {
  while (!waiting_.empty() && next_command_ - 1 - Consumed() < layout::kCommandLines) {
    Write(waiting_.front());
    waiting_.pop_front();
  }
}

std::uint64_t Mailbox::Unconsumed() const {
  return next_command_ - 1 - Consumed() + waiting_.size();
}

bool Mailbox::HasEvent() const {
  return LoadAcquire(NextLine().sequence) == next_event_;
}

bool Mailbox::Receive(layout::EventLine& event) {
  if (!HasEvent()) return false;
  event = NextLine();
  ++next_event_;
  return true;
}

void Mailbox::ReturnCredit() {
  StoreRelease(memory_.control->events_drained, next_event_ - 1);
}

void Mailbox::WriteTokens(std::int32_t lane, std::span<const std::int32_t> tokens) {
  std::copy(tokens.begin(), tokens.end(), memory_.tokens + std::int64_t{lane} * memory_.max_context);
}

void Mailbox::WriteStops(std::int32_t lane, std::span<const std::int32_t> stops) {
  std::copy(stops.begin(), stops.end(), memory_.stops + std::int64_t{lane} * layout::kMaxStopTokens);
}

void Mailbox::WritePages(std::int32_t lane, std::int32_t first, std::span<const std::int32_t> pages) {
  std::copy(pages.begin(), pages.end(), memory_.pages + std::int64_t{lane} * memory_.max_pages + first);
}

std::uint64_t Mailbox::first_command() const {
  return Consumed() + 1;
}

}  // namespace megakernel::host
