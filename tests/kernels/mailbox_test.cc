// The host's end of the mailbox over plain memory: rings that wrap and fill up, credit, places of lane memory.
#include "kernels/host/mailbox.h"

#include <gtest/gtest.h>

#include <vector>

namespace megakernel::host {
namespace {

class MailboxTest : public ::testing::Test {
 protected:
  MailboxTest() {
    program_.max_lanes = 3;
    program_.max_context = 100;
    program_.max_pages = 7;
    storage_.resize(MailboxBytes(program_) / sizeof(Line) + 1);
    memory_ = PlaceMailbox(program_, reinterpret_cast<std::byte*>(storage_.data()));
  }

  // What the kernel does with the next command, if it is there.
  bool Consume(std::uint64_t sequence, layout::CommandLine& command) {
    command = memory_.commands[(sequence - 1) % layout::kCommandLines];
    if (command.sequence != sequence) return false;
    memory_.control->commands_consumed = sequence;
    return true;
  }
  void Emit(std::uint64_t sequence, std::int32_t token) {
    layout::EventLine& line = memory_.events[(sequence - 1) % layout::kEventLines];
    line.token = token;
    line.sequence = sequence;
  }

  struct alignas(128) Line {
    std::byte bytes[128] = {};
  };
  layout::Program program_;
  std::vector<Line> storage_;
  MailboxMemory memory_;
};

TEST_F(MailboxTest, PlacesAreApartAndInside) {
  const auto* base = reinterpret_cast<const std::byte*>(storage_.data());
  const auto at = [&](const void* place) { return static_cast<const std::byte*>(place) - base; };
  EXPECT_GE(at(memory_.commands), at(memory_.control + 1));
  EXPECT_GE(at(memory_.events), at(memory_.commands + layout::kCommandLines));
  EXPECT_GE(at(memory_.tokens), at(memory_.events + layout::kEventLines));
  EXPECT_GE(at(memory_.pages), at(memory_.tokens + 3 * 100));
  EXPECT_GE(at(memory_.stops), at(memory_.pages + 3 * 7));
  EXPECT_GE(static_cast<std::ptrdiff_t>(MailboxBytes(program_)), at(memory_.stops + 3 * layout::kMaxStopTokens));
  EXPECT_EQ(at(memory_.commands) % 128, 0);
}

TEST_F(MailboxTest, CommandsBeyondTheRingWaitAndKeepTheirOrder) {
  Mailbox mailbox(memory_);
  const int sent = 3 * layout::kCommandLines + 5;
  for (int i = 0; i < sent; ++i) {
    layout::CommandLine command;
    command.lane = i;
    mailbox.Send(command);
  }
  EXPECT_EQ(mailbox.Unconsumed(), static_cast<std::uint64_t>(sent));
  std::uint64_t next = 1;
  layout::CommandLine command;
  for (; Consume(next, command); ++next) {
    ASSERT_EQ(command.lane, static_cast<std::int32_t>(next) - 1);
    if (next % 50 == 0) mailbox.Flush();
  }
  mailbox.Flush();
  for (; Consume(next, command); ++next) {
    ASSERT_EQ(command.lane, static_cast<std::int32_t>(next) - 1);
    mailbox.Flush();
  }
  EXPECT_EQ(next, static_cast<std::uint64_t>(sent) + 1);
  EXPECT_EQ(mailbox.Unconsumed(), 0u);
  EXPECT_EQ(mailbox.first_command(), next);
}

TEST_F(MailboxTest, ALineIsNotOverwrittenBeforeItIsConsumed) {
  Mailbox mailbox(memory_);
  layout::CommandLine command;
  for (int i = 0; i <= layout::kCommandLines; ++i) {
    command.lane = i;
    mailbox.Send(command);
  }
  EXPECT_EQ(memory_.commands[0].lane, 0);
  ASSERT_TRUE(Consume(1, command));
  mailbox.Flush();
  EXPECT_EQ(memory_.commands[0].lane, layout::kCommandLines);
}

TEST_F(MailboxTest, EventsComeOnceInOrderAndGiveCreditBack) {
  Mailbox mailbox(memory_);
  layout::EventLine event;
  EXPECT_FALSE(mailbox.Receive(event));
  std::uint64_t written = 0;
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < layout::kEventLines; ++i) {
      ++written;
      Emit(written, static_cast<std::int32_t>(written));
    }
    for (int i = 0; i < layout::kEventLines; ++i) {
      ASSERT_TRUE(mailbox.HasEvent());
      ASSERT_TRUE(mailbox.Receive(event));
      ASSERT_EQ(event.token, static_cast<std::int32_t>(written) - layout::kEventLines + i + 1);
    }
    EXPECT_FALSE(mailbox.Receive(event));
    EXPECT_EQ(memory_.control->events_drained, written - layout::kEventLines);
    mailbox.ReturnCredit();
    EXPECT_EQ(memory_.control->events_drained, written);
  }
  EXPECT_EQ(mailbox.first_event(), written + 1);
}

TEST_F(MailboxTest, LaneMemoryIsWrittenInPlace) {
  Mailbox mailbox(memory_);
  mailbox.WriteTokens(2, std::vector<std::int32_t>{5, 6, 7});
  mailbox.WriteStops(1, std::vector<std::int32_t>{8});
  mailbox.WritePages(2, 0, std::vector<std::int32_t>{1, 2});
  mailbox.WritePages(2, 2, std::vector<std::int32_t>{3});
  EXPECT_EQ(memory_.tokens[202], 7);
  EXPECT_EQ(memory_.stops[layout::kMaxStopTokens], 8);
  EXPECT_EQ(memory_.pages[14], 1);
  EXPECT_EQ(memory_.pages[16], 3);
}

}  // namespace
}  // namespace megakernel::host
