// Mistakes that the torture program can make on purpose: each shows that the rows which must notice it do.
#pragma once

#include <atomic>
#include <memory>
#include <string_view>
#include <thread>
#include <vector>

#include "engine/base/mutex.h"
#include "engine/executor/fake_executor.h"

namespace megakernel::torture {

enum class Fault {
  kNone,
  // Of the executor.
  kLoseFinish,       // the end of one cancelled sequence in 50 is never reported
  kDropCancel,       // cancels are not carried out
  kWrongToken,       // one token in 97 is reported as another
  kStallBesideSlow,  // steps wait 15 ms while somebody reads slowly
  kDeafWatchdog,     // the heartbeat goes on although nothing moves
  kLeakFd,           // each admission keeps a file open
  kLeakMemory,       // each admission keeps 64 KiB
  kLeakThread,       // each 20th admission leaves a thread behind
  // Of the server's settings or of the test around it.
  kNoKeepalive,   // peers that are gone are waited for
  kSmallRequest,  // the largest request is one byte smaller
  kPlenty,        // there are pages for everything
  kOneTenant,     // two tenants have the same name
  kDiskHasRoom,   // the disk is not full
  kForwardClock,  // the clock that must not move does
};

struct FaultName {
  Fault fault;
  std::string_view name;
};
// All but kNone.
const std::vector<FaultName>& FaultNames();
std::string_view NameOf(Fault fault);

// A fake executor with a fault. Everything but the fault is the fake's own.
class FaultyExecutor final : public Executor {
 public:
  FaultyExecutor(const FakeOptions& options, Fault fault) : fake_(options), fault_(fault) {}
  ~FaultyExecutor() override;

  FakeExecutor& fake() { return fake_; }
  // For kStallBesideSlow: somebody reads slowly from now on, or no longer.
  void SetSlowReaders(bool there) { slow_readers_ = there; }

  const ExecutorInfo& info() const override { return fake_.info(); }
  absl::Status Submit(Command command) override;
  void Drain(std::vector<Event>& events) override;
  void Wait(absl::Duration timeout) override { fake_.Wait(timeout); }
  void Notify() override { fake_.Notify(); }
  std::uint64_t Heartbeat() const override;
  absl::Status Health() const override { return fake_.Health(); }

 private:
  void Leak();

  FakeExecutor fake_;
  const Fault fault_;
  std::atomic<bool> slow_readers_{false};
  mutable std::atomic<std::uint64_t> beats_{0};
  // Engine thread only.
  bool stopping_ = false;
  std::int64_t admitted_ = 0, tokens_ = 0, cancelled_ = 0;
  std::vector<std::unique_ptr<std::vector<char>>> memory_;
  std::vector<int> files_;
  std::vector<std::thread> threads_;
  Mutex mutex_;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace megakernel::torture
