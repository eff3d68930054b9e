#include "tests/support/simulated_device.h"

#include <algorithm>
#include <cstring>

#include "kernels/device/scheduler_loop.h"
#include "kernels/host/placement.h"

namespace megakernel::test {
namespace {

struct KernelOver {};  // thrown on the kernel's threads to end them

constexpr int kBlocks = 3;  // that answer a copy step

std::uint64_t LoadAcquire(const std::uint64_t* word) {
  return std::atomic_ref<std::uint64_t>(*const_cast<std::uint64_t*>(word)).load(std::memory_order_acquire);
}
void StoreRelease(std::uint64_t* word, std::uint64_t value) {
  std::atomic_ref<std::uint64_t>(*word).store(value, std::memory_order_release);
}

thread_local SimulatedDevice* current = nullptr;
thread_local int polls = 0;

// A look at a word that another thread writes: now and then the processor is given up.
void Poll() {
  if (++polls % 64 != 0) return;
  current->CheckAlive();
  std::this_thread::sleep_for(std::chrono::microseconds(10));
}

// Release and acquire instead of fences, which the thread sanitizer does not know.
struct SimulatedWords {
  static constexpr std::uint32_t kSpinLimit = 1u << 18;  // some tenths of a second of Poll

  static std::uint64_t LoadAcquireSystem(const std::uint64_t* word) {
    if (current != nullptr) current->CheckAlive();
    return LoadAcquire(word);
  }
  static void StoreReleaseSystem(std::uint64_t* word, std::uint64_t value) { StoreRelease(word, value); }
  static void StoreRelaxedSystem(std::uint64_t* word, std::uint64_t value) { StoreRelease(word, value); }
  static std::uint64_t LoadRelaxed(const std::uint64_t* word) {
    Poll();
    return LoadAcquire(word);
  }
  static void StoreRelaxed(std::uint64_t* word, std::uint64_t value) { StoreRelease(word, value); }
  static void FenceGpu() {}
  static std::uint64_t GlobalTimer() {
    return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch() /
                                      std::chrono::nanoseconds(1));
  }
  static void Sleep(std::uint32_t ns) { std::this_thread::sleep_for(std::chrono::nanoseconds(20 * ns)); }
  static void AwaitPacket(const SimulatedDevice::Args& args, const std::uint64_t* word, std::uint32_t epoch) {
    for (std::uint32_t i = 0; static_cast<std::uint32_t>(LoadRelaxed(word) >> 32) != epoch; ++i) {
      if (i > kSpinLimit) Fault(args, layout::FaultCode::kPacketTimeout, epoch);
    }
  }
  static void Fault(const SimulatedDevice::Args& args, layout::FaultCode code, std::uint64_t detail) {
    args.device->Die(code, detail);
  }
};

}  // namespace

layout::Program SimulatedProgram(const FakeOptions& fake) {
  layout::Program p;
  p.num_layers = 1;
  p.hidden = p.head_dim = p.ffn = 64;
  p.groups = p.q_per_kv = 1;
  p.vocab = fake.vocab;
  p.max_context = fake.max_context;
  p.num_blocks = kBlocks;
  p.blocks_per_group = 1;
  p.max_rows = layout::kGpuMaxRows;
  p.max_lanes = fake.max_lanes;
  p.max_pages = layout::PagesFor(fake.max_context, fake.page_tokens);
  p.max_items = 1;
  p.kv = {layout::KvLayout::kHeadMajor, 1, 1, 64, fake.page_tokens, 2};
  p.num_kv_pages = fake.num_pages;
  host::PlaceWeights(true, p);
  host::PlaceWorkspace(p);
  return p;
}

SimulatedDevice::SimulatedDevice(const SimulatedOptions& options)
    : options_(options),
      program_(SimulatedProgram(options.fake)),
      memory_(host::MailboxBytes(program_) + 128),
      mailbox_(host::PlaceMailbox(
          program_, memory_.data() + (128 - reinterpret_cast<std::uintptr_t>(memory_.data()) % 128) % 128)),
      workspace_(static_cast<std::size_t>(program_.workspace.total)),
      slots_(static_cast<std::size_t>(options.fake.num_pages) * options.fake.page_tokens, 0xDEADDEADDEADDEADull) {}

SimulatedDevice::~SimulatedDevice() {
  over_.store(true);
  Join();
}

void SimulatedDevice::Join() {
  if (scheduler_.joinable()) scheduler_.join();
  if (blocks_.joinable()) blocks_.join();
}

bool SimulatedDevice::Launch(const host::LaunchRequest& request, std::string& error) {
  if (fault_.load() == SimulatedFault::kRefuseLaunch) {
    error = "the launch was refused";
    return false;
  }
  Join();
  std::fill(workspace_.begin(), workspace_.end(), std::uint8_t{0});
  const layout::SchedulerState state = host::FirstSchedulerState(program_, request.policy);
  std::memcpy(static_cast<void*>(workspace_.data() + program_.workspace.scheduler), &state, sizeof(state));
  args_ = {program_,
           workspace_.data(),
           mailbox_.control,
           mailbox_.commands,
           mailbox_.events,
           mailbox_.lanes(),
           request.first_command,
           request.first_event,
           0,
           options_.park_after_us,
           this};
  state_.store(host::KernelState::kRunning);
  scheduler_ = std::thread([this] { RunScheduler(); });
  blocks_ = std::thread([this] { RunBlocks(); });
  return true;
}

host::KernelState SimulatedDevice::State(std::string& error) const {
  const host::KernelState state = state_.load();
  if (state == host::KernelState::kFailed) error = "the simulated kernel died";
  return state;
}

bool SimulatedDevice::ReadPages(std::span<const std::int32_t> pages, std::byte* bytes, std::string&) {
  const std::size_t tokens = program_.kv.page_tokens;
  for (const std::int32_t page : pages) {
    std::memcpy(bytes, &slots_.at(page * tokens), tokens * sizeof(std::uint64_t));
    bytes += program_.kv.PageBytes();
  }
  return true;
}

bool SimulatedDevice::WritePages(std::span<const std::int32_t> pages, const std::byte* bytes, std::string&) {
  const std::size_t tokens = program_.kv.page_tokens;
  for (const std::int32_t page : pages) {
    std::memcpy(&slots_.at(page * tokens), bytes, tokens * sizeof(std::uint64_t));
    bytes += program_.kv.PageBytes();
  }
  return true;
}

void SimulatedDevice::CheckAlive() {
  while (fault_.load(std::memory_order_relaxed) == SimulatedFault::kFrozen && !over_.load()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  if (over_.load(std::memory_order_relaxed)) throw KernelOver{};
}

void SimulatedDevice::Die(layout::FaultCode code, std::uint64_t detail) {
  StoreRelease(&mailbox_.control->fault_detail, detail);
  StoreRelease(&mailbox_.control->fault, static_cast<std::uint64_t>(code) << 32 | 2u << 16 | 17u);
  state_.store(host::KernelState::kFailed);
  over_.store(true);
  throw KernelOver{};
}

void SimulatedDevice::RunScheduler() {
  current = this;
  try {
    device::SchedulerLoop<Args, SimulatedWords>(args_).Run();
  } catch (const KernelOver&) {
  }
}

void SimulatedDevice::RunBlocks() {
  current = this;
  try {
    for (std::uint32_t step = 1; RunStep(step); ++step) {
    }
    state_.store(host::KernelState::kReturned);
  } catch (const KernelOver&) {
  }
}

// False after the last step.
bool SimulatedDevice::RunStep(std::uint32_t step) {
  const std::uint64_t* packets = Words(program_.workspace.steps) + (step & 1) * layout::kStepPackets;
  while (static_cast<std::uint32_t>(LoadAcquire(packets) >> 32) != step) Poll();
  const auto header = static_cast<std::uint32_t>(LoadAcquire(packets));
  if (header >> 16 & layout::kStepExit) return false;
  if (header >> 16 & layout::kStepCopy) {
    CopyPage(step, packets);
    return true;
  }
  if (fault_.load() == SimulatedFault::kTrap) Die(layout::FaultCode::kSumTimeout, step);
  if (options_.step_time.count() > 0) std::this_thread::sleep_for(options_.step_time);
  for (std::int32_t row = 0; row < static_cast<std::int32_t>(header & 0xffff); ++row) RunRow(step, row, packets);
  return true;
}

void SimulatedDevice::RunRow(std::uint32_t step, std::int32_t row_idx, const std::uint64_t* packets) {
  std::uint32_t fields[layout::kRowPackets];
  for (int i = 0; i < layout::kRowPackets; ++i) {
    const std::uint64_t* packet = packets + layout::kStepHeaderPackets + row_idx * layout::kRowPackets + i;
    while (static_cast<std::uint32_t>(LoadAcquire(packet) >> 32) != step) Poll();
    fields[i] = static_cast<std::uint32_t>(LoadAcquire(packet));
  }
  layout::StepRow row;
  std::memcpy(&row, fields, sizeof(row));
  std::uint64_t* tokens = Words(program_.workspace.tokens);
  if (row.source_row >= 0) {
    const std::uint64_t* source = tokens + ((step - 1) & 1) * program_.max_rows + row.source_row;
    while (static_cast<std::uint32_t>(LoadAcquire(source) >> 32) != step - 1) Poll();
    row.token = static_cast<std::int32_t>(LoadAcquire(source));
  }
  const auto* table = reinterpret_cast<const std::int32_t*>(workspace_.data() + program_.workspace.page_table) +
                      std::int64_t{row.lane} * program_.max_pages;
  const auto slot = [&](std::int32_t position) -> std::uint64_t& {
    return slots_.at(std::size_t{static_cast<std::uint32_t>(table[position / program_.kv.page_tokens])} *
                         program_.kv.page_tokens +
                     position % program_.kv.page_tokens);
  };
  const std::uint64_t before = row.position == 0 ? 0 : slot(row.position - 1);
  const std::uint64_t prefix = FakeHash(before, row.token);
  slot(row.position) = prefix;
  std::int32_t token = -1;
  if (row.flags & layout::kRowSamples) {
    const auto* samplings =
        reinterpret_cast<const layout::LaneSampling*>(workspace_.data() + program_.workspace.samplings);
    SamplingParams sampling;
    sampling.temperature = row.flags & layout::kRowGreedy ? 0.0f : samplings[row.lane].temperature;
    sampling.seed = samplings[row.lane].seed;
    token = FakeChoose(options_.fake, sampling, prefix, 0);
  }
  if (fault_.load() == SimulatedFault::kLostToken) return;
  StoreRelease(tokens + (step & 1) * program_.max_rows + row_idx,
               device::Tagged(static_cast<std::uint32_t>(token), step));
}

void SimulatedDevice::CopyPage(std::uint32_t step, const std::uint64_t* packets) {
  const auto source = static_cast<std::uint32_t>(LoadAcquire(packets + 1));
  const auto target = static_cast<std::uint32_t>(LoadAcquire(packets + 2));
  const std::size_t size = program_.kv.page_tokens;
  std::copy_n(slots_.begin() + source * size, size, slots_.begin() + target * size);
  for (int block = 0; block < kBlocks; ++block) {
    StoreRelease(Words(program_.workspace.candidates) + block * program_.max_rows * 2, device::Tagged(0, step));
  }
}

}  // namespace megakernel::test
