#include "clients/cli/line_reader.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>

namespace megakernel::cli {

LineReader::Event LineReader::Next(std::string* line, int* signal) {
  while (true) {
    *signal = interrupts_->Take();
    if (*signal != 0) return Event::kSignal;
    const size_t end = buffer_.find('\n');
    if (end != std::string::npos) {
      *line = buffer_.substr(0, end);
      buffer_.erase(0, end + 1);
      return Event::kLine;
    }
    if (ended_) {
      *line = std::move(buffer_);
      buffer_.clear();
      return line->empty() ? Event::kEnd : Event::kLine;
    }
    pollfd fds[2] = {{STDIN_FILENO, POLLIN, 0}, {interrupts_->fd(), POLLIN, 0}};
    if (poll(fds, 2, -1) < 0 || fds[0].revents == 0) continue;
    char chunk[4096];
    const ssize_t size = read(STDIN_FILENO, chunk, sizeof(chunk));
    if (size > 0) {
      buffer_.append(chunk, static_cast<size_t>(size));
    } else if (size == 0 || errno != EINTR) {
      ended_ = true;  // also a terminal that was closed
    }
  }
}

}  // namespace megakernel::cli
