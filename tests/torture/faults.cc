#include "tests/torture/faults.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"

namespace megakernel::torture {

const std::vector<FaultName>& FaultNames() {
  static const std::vector<FaultName> names = {{Fault::kLoseFinish, "lose-finish"},
                                               {Fault::kDropCancel, "drop-cancel"},
                                               {Fault::kWrongToken, "wrong-token"},
                                               {Fault::kStallBesideSlow, "stall-beside-slow"},
                                               {Fault::kDeafWatchdog, "deaf-watchdog"},
                                               {Fault::kLeakFd, "leak-fd"},
                                               {Fault::kLeakMemory, "leak-memory"},
                                               {Fault::kLeakThread, "leak-thread"},
                                               {Fault::kNoKeepalive, "no-keepalive"},
                                               {Fault::kSmallRequest, "small-request"},
                                               {Fault::kPlenty, "plenty"},
                                               {Fault::kOneTenant, "one-tenant"},
                                               {Fault::kDiskHasRoom, "disk-has-room"},
                                               {Fault::kForwardClock, "forward-clock"}};
  return names;
}

std::string_view NameOf(Fault fault) {
  for (const FaultName& entry : FaultNames()) {
    if (entry.fault == fault) return entry.name;
  }
  return "none";
}

FaultyExecutor::~FaultyExecutor() {
  {
    MutexLock lock(&mutex_);
    ending_ = true;
  }
  for (std::thread& thread : threads_) thread.join();
  for (const int file : files_) close(file);
}

absl::Status FaultyExecutor::Submit(Command command) {
  if (std::holds_alternative<Cancel>(command) && fault_ == Fault::kDropCancel) return absl::OkStatus();
  if (std::holds_alternative<Admit>(command)) {
    ++admitted_;
    Leak();
  }
  if (std::holds_alternative<Stop>(command)) stopping_ = true;
  return fake_.Submit(std::move(command));
}

void FaultyExecutor::Leak() {
  constexpr std::size_t kBytes = 64 << 10;
  constexpr int kAdmissionsPerThread = 20;
  if (fault_ == Fault::kLeakMemory) memory_.push_back(std::make_unique<std::vector<char>>(kBytes, 'x'));
  if (fault_ == Fault::kLeakFd) files_.push_back(open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (fault_ == Fault::kLeakThread && admitted_ % kAdmissionsPerThread == 0) {
    threads_.emplace_back([this] {
      MutexLock lock(&mutex_);
      mutex_.Await([this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return ending_; });
    });
  }
}

void FaultyExecutor::Drain(std::vector<Event>& events) {
  constexpr int kEndsPerLoss = 50;
  constexpr int kTokensPerMistake = 97;
  const std::size_t before = events.size();
  if (fault_ == Fault::kStallBesideSlow && slow_readers_) absl::SleepFor(absl::Milliseconds(15));
  fake_.Drain(events);
  if (stopping_) return;
  for (std::size_t i = before; i < events.size(); ++i) {
    Event& event = events[i];
    if (event.type == EventType::kToken && fault_ == Fault::kWrongToken && ++tokens_ % kTokensPerMistake == 0) {
      event.token = event.token + 1 < fake_.info().vocab ? event.token + 1 : event.token - 1;
    }
  }
  if (fault_ != Fault::kLoseFinish) return;
  const auto lost = [&](const Event& event) {
    return event.type == EventType::kFinished && event.cause == FinishCause::kCancelled &&
           ++cancelled_ % kEndsPerLoss == 0;
  };
  events.erase(std::remove_if(events.begin() + static_cast<std::ptrdiff_t>(before), events.end(), lost), events.end());
}

std::uint64_t FaultyExecutor::Heartbeat() const {
  return fault_ == Fault::kDeafWatchdog ? ++beats_ : fake_.Heartbeat();
}

}  // namespace megakernel::torture
