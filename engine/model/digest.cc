#include "engine/model/digest.h"

#include <bit>
#include <cstring>

#include "absl/strings/str_format.h"

namespace megakernel {
namespace {

// Each step is a bijection of the state for a given word, and of the word for a given state.
std::uint64_t Step(std::uint64_t state, std::uint64_t word) {
  return std::rotl((state ^ word) * 0x9e3779b97f4a7c15u, 29);
}

std::uint64_t Finish(std::uint64_t x) {
  x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93u;
  x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93u;
  return x ^ (x >> 32);
}

}  // namespace

void Digest::Add(std::span<const std::byte> bytes) {
  std::uint64_t words[kLanes];
  std::size_t i = 0;
  for (; i + sizeof(words) <= bytes.size(); i += sizeof(words)) {
    std::memcpy(words, bytes.data() + i, sizeof(words));
    for (int lane = 0; lane < kLanes; ++lane) lanes_[lane] = Step(lanes_[lane], words[lane]);
  }
  std::memset(words, 0, sizeof(words));
  if (i < bytes.size()) std::memcpy(words, bytes.data() + i, bytes.size() - i);
  for (int lane = 0; lane < kLanes; ++lane) lanes_[lane] = Step(lanes_[lane], words[lane]);
  // The length ends every Add, so that zeros at the end and the border between two calls count.
  lanes_[0] = Step(lanes_[0], bytes.size());
}

std::string Digest::Hex() const {
  std::uint64_t high = 0;
  std::uint64_t low = 0x9e3779b97f4a7c15u;
  for (const std::uint64_t lane : lanes_) {
    high = Finish(high ^ lane);
    low = Finish(low + lane);
  }
  return absl::StrFormat("%016x%016x", high, low);
}

}  // namespace megakernel
