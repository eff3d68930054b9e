// Threads that run one function together, with barriers and shared work lists inside it.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace megakernel::cpu {

class ThreadTeam;

// A member of a team while it runs. Owned by its thread.
class Worker {
 public:
  int index() const { return index_; }
  int num_workers() const;

  // Returns when every member has called it. What they wrote before is visible after. Starts the next phase.
  void Barrier();

  // Takes up to `chunk` items of this phase's `total`; false when none is left. Each item goes to one member. A member
  // walks through its own share in ascending order, then through what others have not taken yet.
  // One list a phase: every call between two barriers must name the same total.
  bool Take(int total, int chunk, int& first, int& count);

  // The first item of this member's share of `total`.
  int ShareOf(int total) const { return Share(total, index_); }

 private:
  friend class ThreadTeam;
  int Share(int total, int member) const;

  ThreadTeam* team_ = nullptr;
  int index_ = 0;
  std::uint32_t phase_ = 0;
};

// Run belongs to one thread, which is the member with index 0. The other threads spin for a moment between runs and
// inside barriers, then sleep.
class ThreadTeam {
 public:
  explicit ThreadTeam(int num_threads);  // >= 1
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int size() const { return static_cast<int>(workers_.size()); }

  // Times that a member took items, since the start: rises all through a run. Any thread.
  std::uint64_t Progress() const;

  // Every member runs `function`; returns when all have returned.
  void Run(const std::function<void(Worker&)>& function);

 private:
  friend class Worker;
  static constexpr std::uint32_t kCursors = 4;
  struct alignas(64) Word {
    std::atomic<int> value{0};
  };
  struct alignas(64) Count {
    std::atomic<std::uint64_t> value{0};
  };

  void Loop(Worker& worker);
  void Arrive(Worker& worker);
  // Items of its share that are taken, of a member in a phase.
  std::atomic<int>& Cursor(std::uint32_t phase, int member) {
    return cursors_[(phase % kCursors) * workers_.size() + static_cast<std::size_t>(member)].value;
  }
  static void WaitWhileEqual(std::atomic<int>& word, int value);

  std::vector<Worker> workers_;
  std::vector<std::thread> threads_;
  const std::function<void(Worker&)>* function_ = nullptr;
  bool stopping_ = false;
  Word run_;                   // rises when a run starts
  Word arrived_;               // members at the barrier
  Word passed_;                // rises when a barrier opens
  std::vector<Word> cursors_;  // [kCursors][members]
  std::vector<Count> takes_;   // by member, who alone writes it
};

}  // namespace megakernel::cpu
