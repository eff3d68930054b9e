// The host's end of the mailbox: commands into their ring, events out of theirs, by the rules of
// kernels/layout/mailbox.h. Knows nothing of what commands mean.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>

#include "kernels/layout/mailbox.h"
#include "kernels/layout/program.h"

namespace megakernel::host {

// Where a mailbox lies: one block of memory that host and kernel see, zero at first. Owned elsewhere.
struct MailboxMemory {
  layout::MailboxControl* control = nullptr;
  layout::CommandLine* commands = nullptr;  // [kCommandLines]
  layout::EventLine* events = nullptr;      // [kEventLines]
  std::int32_t* tokens = nullptr;           // [max_lanes][max_context]
  std::int32_t* pages = nullptr;            // [max_lanes][max_pages]
  std::int32_t* stops = nullptr;            // [max_lanes][kMaxStopTokens]
  std::int32_t max_context = 0;
  std::int32_t max_pages = 0;

  layout::LaneMemory lanes() const { return {tokens, pages, stops}; }
};

// Bytes that the mailbox of `program` takes, and its places from `base`, which is aligned to 128 bytes.
std::size_t MailboxBytes(const layout::Program& program);
MailboxMemory PlaceMailbox(const layout::Program& program, std::byte* base);

// One thread, but for what MailboxControl says to others.
class Mailbox {
 public:
  explicit Mailbox(const MailboxMemory& memory) : memory_(memory) {}

  // Writes the command, now or, when the ring is full, as soon as there is room (Flush). `sequence` is set here.
  void Send(const layout::CommandLine& command);
  // Writes what waits for room.
  void Flush();
  // Commands that the kernel has not consumed, those that wait for room included.
  std::uint64_t Unconsumed() const;

  // The next event, if there is one.
  bool Receive(layout::EventLine& event);
  bool HasEvent() const;
  // Lets the kernel use the lines of received events again.
  void ReturnCredit();

  // --- Lane memory: before the command that names it ---
  void WriteTokens(std::int32_t lane, std::span<const std::int32_t> tokens);
  void WriteStops(std::int32_t lane, std::span<const std::int32_t> stops);
  // Pages [first, first + pages.size()) of the lane's table.
  void WritePages(std::int32_t lane, std::int32_t first, std::span<const std::int32_t> pages);

  // What a launch has to start with: the sequences of the next command to read and of the next event to write.
  // REQUIRES: no kernel runs, and all that it wrote was received.
  std::uint64_t first_command() const;
  std::uint64_t first_event() const { return next_event_; }

 private:
  void Write(const layout::CommandLine& command);
  const layout::EventLine& NextLine() const { return memory_.events[(next_event_ - 1) % layout::kEventLines]; }
  std::uint64_t Consumed() const;

  const MailboxMemory memory_;
  std::uint64_t next_command_ = 1;
  std::uint64_t next_event_ = 1;
  std::deque<layout::CommandLine> waiting_;
};

}  // namespace megakernel::host
