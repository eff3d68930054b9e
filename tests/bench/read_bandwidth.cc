#include "tests/bench/read_bandwidth.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <thread>

#include "engine/base/check.h"
#include "engine/cpu/memory.h"

namespace megakernel::bench {
namespace {

constexpr std::int64_t kBytes = std::int64_t{256} << 20;

// Eight sums at a time: the compiler makes vectors of them, and no addition waits for the one before.
std::uint64_t Sum(const std::uint64_t* words, std::int64_t count) {
  std::uint64_t sums[16] = {};
  for (std::int64_t i = 0; i + 16 <= count; i += 16) {
    for (int k = 0; k < 16; ++k) sums[k] += words[i + k];
  }
  std::uint64_t sum = 0;
  for (std::uint64_t part : sums) sum += part;
  return sum;
}

}  // namespace

std::vector<double> ReadBandwidth(int threads, int runs) {
  auto memory = cpu::Memory::Allocate(kBytes, "the bandwidth test");
  MK_CHECK(memory.ok());
  std::memset(memory->data(), 1, kBytes);
  const auto* words = reinterpret_cast<const std::uint64_t*>(memory->data());
  const std::int64_t part = kBytes / 8 / threads;
  std::atomic<std::uint64_t> total{0};
  std::vector<double> rates;
  for (int run = 0; run < runs; ++run) {
    const auto start = std::chrono::steady_clock::now();
    std::vector<std::thread> readers;
    for (int t = 0; t < threads; ++t) {
      readers.emplace_back([&, t] { total += Sum(words + t * part, part); });
    }
    for (std::thread& reader : readers) reader.join();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    rates.push_back(static_cast<double>(part * 8 * threads) / seconds / 1e9);
  }
  MK_CHECK(total != 0);  // keeps the reads
  return rates;
}

}  // namespace megakernel::bench
