#include "engine/cpu/thread_team.h"

namespace megakernel::cpu {
namespace {

// About 30 us: longer than the members of a team are apart inside a step and than the time between two steps, shorter
// than what a sleeping server may waste.
constexpr int kSpins = 1500;

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

int Worker::num_workers() const {
  return team_->size();
}

void Worker::Barrier() {
  team_->Arrive(*this);
}

int Worker::Share(int total, int member) const {
  return static_cast<int>(static_cast<std::int64_t>(total) * member / team_->size());
}

bool Worker::Take(int total, int chunk, int& first, int& count) {
  for (int i = 0; i < team_->size(); ++i) {
    const int member = (index_ + i) % team_->size();
    const int begin = Share(total, member);
    const int size = Share(total, member + 1) - begin;
    std::atomic<int>& cursor = team_->Cursor(phase_, member);
    if (cursor.load(std::memory_order_relaxed) >= size) continue;
    const int taken = cursor.fetch_add(chunk, std::memory_order_relaxed);
    if (taken >= size) continue;
    first = begin + taken;
    count = size - taken < chunk ? size - taken : chunk;
    std::atomic<std::uint64_t>& takes = team_->takes_[static_cast<std::size_t>(index_)].value;
    takes.store(takes.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    return true;
  }
  return false;
}

ThreadTeam::ThreadTeam(int num_threads)
    : workers_(static_cast<std::size_t>(num_threads)),
      cursors_(kCursors * static_cast<std::size_t>(num_threads)),
      takes_(static_cast<std::size_t>(num_threads)) {
  for (int i = 0; i < num_threads; ++i) {
    workers_[i].team_ = this;
    workers_[i].index_ = i;
  }
  for (int i = 1; i < num_threads; ++i) {
    threads_.emplace_back([this, i] { Loop(workers_[i]); });
  }
}

ThreadTeam::~ThreadTeam() {
  stopping_ = true;
  run_.value.fetch_add(1, std::memory_order_release);
  run_.value.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

std::uint64_t ThreadTeam::Progress() const {
  std::uint64_t sum = 0;
  for (const Count& takes : takes_) sum += takes.value.load(std::memory_order_relaxed);
  return sum;
}

void ThreadTeam::Run(const std::function<void(Worker&)>& function) {
  function_ = &function;
  if (!threads_.empty()) {
    run_.value.fetch_add(1, std::memory_order_release);
    run_.value.notify_all();
  }
  function(workers_[0]);
  Arrive(workers_[0]);
}

void ThreadTeam::Loop(Worker& worker) {
  for (int runs = 0;; ++runs) {
    WaitWhileEqual(run_.value, runs);
    if (stopping_) return;
    (*function_)(worker);
    Arrive(worker);
  }
}

void ThreadTeam::Arrive(Worker& worker) {
  const std::uint32_t phase = worker.phase_++;
  const int passed = passed_.value.load(std::memory_order_relaxed);
  if (arrived_.value.fetch_add(1, std::memory_order_acq_rel) + 1 < size()) {
    WaitWhileEqual(passed_.value, passed);
    return;
  }
  // Everybody is here, so nobody uses the list of two phases ahead, last used two phases ago.
  for (int i = 0; i < size(); ++i) Cursor(phase + 2, i).store(0, std::memory_order_relaxed);
  arrived_.value.store(0, std::memory_order_relaxed);
  passed_.value.store(passed + 1, std::memory_order_release);
  passed_.value.notify_all();
}

void ThreadTeam::WaitWhileEqual(std::atomic<int>& word, int value) {
  for (int i = 0; i < kSpins; ++i) {
    if (word.load(std::memory_order_acquire) != value) return;
    Pause();
  }
  while (word.load(std::memory_order_acquire) == value) word.wait(value, std::memory_order_acquire);
}

}  // namespace megakernel::cpu
