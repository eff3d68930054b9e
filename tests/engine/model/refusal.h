// What every refusal of a bad file must be: quick, and one line that names the file and what is wrong with it. A
// program that includes this prints at its end how many it saw and which took longest.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <ctime>
#include <string>
#include <type_traits>

#include "absl/status/status.h"

namespace megakernel::test {

// Of processor time, which other programs do not lengthen: a limit of wall time would fail on a busy machine, and
// reading a file that small waits for no disk. Instrumented code takes ten to twenty times as long; the claim is about
// the other.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr double kRefusalSeconds = 30.0;
#else
inline constexpr double kRefusalSeconds = 1.0;
#endif
inline constexpr std::size_t kRefusalBytes = 1024;  // of a message: it quotes names, and paths of temporary files

class RefusalSummary : public testing::Environment {
 public:
  void Add(double seconds, const std::string& message) {
    ++count_;
    if (seconds >= slowest_) slowest_ = seconds, slowest_message_ = message;
  }
  void TearDown() override {
    std::printf("bad files refused: %d; most processor time %.1f ms of %.0f: %s\n", count_, 1e3 * slowest_,
                1e3 * kRefusalSeconds, slowest_message_.c_str());
  }

 private:
  int count_ = 0;
  double slowest_ = 0.0;
  std::string slowest_message_;
};

// Owned by GoogleTest.
inline RefusalSummary& TheRefusalSummary() {
  static auto* const summary = new RefusalSummary;
  return *summary;
}
inline const testing::Environment* const kRegisteredRefusals = testing::AddGlobalTestEnvironment(&TheRefusalSummary());

// `open` opens the bad file and returns a status, or something that has one. It must be InvalidArgument, or NotFound
// for a file that is not there; returns its message, which contains `file` and `fault`.
template <class Open>
std::string ExpectRefusal(Open open, const std::string& file, const std::string& fault) {
  const std::clock_t begin = std::clock();
  const absl::Status status = [&] {
    auto result = open();
    if constexpr (std::is_same_v<decltype(result), absl::Status>) {
      return result;
    } else {
      return result.status();
    }
  }();
  const double seconds = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  const std::string message(status.message());
  EXPECT_TRUE(absl::IsInvalidArgument(status) || absl::IsNotFound(status)) << status;
  EXPECT_THAT(message, testing::HasSubstr(file));
  EXPECT_THAT(message, testing::HasSubstr(fault));
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  EXPECT_LT(message.size(), kRefusalBytes);
  EXPECT_LT(seconds, kRefusalSeconds) << message;
  TheRefusalSummary().Add(seconds, message);
  return message;
}

}  // namespace megakernel::test
