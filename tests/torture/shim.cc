// Preloaded into a real server, by variables of its environment:
//   JUMP_REALTIME, JUMP_MONOTONIC   seconds that are added to that clock in the first 500 ms, so that the server starts
//                                   with them, then in every second 50 ms
//   FULL_DISK                       while a file of this name is there, nothing can be written to names with .partial
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

using ClockGetTime = int (*)(clockid_t, timespec*);

ClockGetTime Real() {
  static const auto real = reinterpret_cast<ClockGetTime>(dlsym(RTLD_NEXT, "clock_gettime"));
  return real;
}

long MonotonicNs() {
  timespec now = {};
  Real()(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

long JumpOf(const char* variable) {
  const char* text = std::getenv(variable);
  return text == nullptr ? 0 : std::strtol(text, nullptr, 10);
}

bool Jumped() {
  constexpr long kStartNs = 500'000'000, kPeriodNs = 50'000'000;
  static const long start = MonotonicNs();
  const long age = MonotonicNs() - start;
  return age < kStartNs || (age / kPeriodNs) % 2 == 1;
}

// Whether the disk is full for this file.
bool IsFull(int descriptor) {
  static const char* const sign = std::getenv("FULL_DISK");
  if (sign == nullptr || access(sign, F_OK) != 0) return false;
  char link[64], name[4096];
  std::snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  const ssize_t length = readlink(link, name, sizeof name - 1);
  if (length <= 0) return false;
  name[length] = 0;
  return std::strstr(name, ".partial") != nullptr;
}

}  // namespace

extern "C" ssize_t write(int descriptor, const void* bytes, size_t count) {
  using Write = ssize_t (*)(int, const void*, size_t);
  static const auto real = reinterpret_cast<Write>(dlsym(RTLD_NEXT, "write"));
  if (IsFull(descriptor)) {
    errno = ENOSPC;
    return -1;
  }
  return real(descriptor, bytes, count);
}

extern "C" int clock_gettime(clockid_t clock, timespec* time) noexcept {
  static const long realtime = JumpOf("JUMP_REALTIME"), monotonic = JumpOf("JUMP_MONOTONIC");
  const int result = Real()(clock, time);
  if (result == 0 && clock == CLOCK_REALTIME && realtime != 0 && Jumped()) time->tv_sec += realtime;
  if (result == 0 && clock == CLOCK_MONOTONIC && monotonic != 0 && Jumped()) time->tv_sec += monotonic;
  return result;
}

extern "C" int gettimeofday(timeval* time, void*) noexcept {
  timespec now = {};
  const int result = clock_gettime(CLOCK_REALTIME, &now);
  time->tv_sec = now.tv_sec;
  time->tv_usec = now.tv_nsec / 1000;
  return result;
}
