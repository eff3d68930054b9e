#include "clients/cli/interrupts.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <thread>

namespace megakernel::cli {

Interrupts::Interrupts() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&signals, signal);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal_fd_ = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
  if (signal_fd_ < 0) {
    std::perror("megakernel: signalfd");
    std::exit(1);
  }
}

Interrupts::~Interrupts() {
  close(signal_fd_);
}

int Interrupts::Take() {
  signalfd_siginfo info;
  return read(signal_fd_, &info, sizeof(info)) == sizeof(info) ? static_cast<int>(info.ssi_signo) : 0;
}

int Interrupts::During(absl::FunctionRef<void()> interrupt, absl::FunctionRef<void()> work) {
  const int done_fd = eventfd(0, EFD_CLOEXEC);
  if (done_fd < 0) {
    std::perror("megakernel: eventfd");
    std::exit(1);
  }
  int last = 0;
  std::thread watcher([&] {
    pollfd fds[2] = {{signal_fd_, POLLIN, 0}, {done_fd, POLLIN, 0}};
    while (true) {
      if (poll(fds, 2, -1) < 0 && errno == EINTR) continue;
      if (const int signal = Take(); signal != 0) {
        last = signal;
        interrupt();
      }
      if (fds[1].revents != 0) return;
    }
  });
  work();
  const std::uint64_t one = 1;
  if (write(done_fd, &one, sizeof(one)) != sizeof(one)) std::perror("megakernel: eventfd");
  watcher.join();
  close(done_fd);
  return last;
}

}  // namespace megakernel::cli
