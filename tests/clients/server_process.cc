#include "tests/clients/server_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <regex>

#include "absl/time/clock.h"

namespace megakernel::tests {
namespace {

constexpr int kStartSeconds = 60;
constexpr int kStopSeconds = 30;
constexpr absl::Duration kPoll = absl::Milliseconds(10);

}  // namespace

ServerProcess::ServerProcess(const std::vector<std::string>& flags) : log_fd_(memfd_create("server-log", MFD_CLOEXEC)) {
  const char* folder = std::getenv("MEGAKERNEL_BIN");
  const std::string program = std::string(folder == nullptr ? "." : folder) + "/megakernel-server";
  std::vector<std::string> words = {program, "--listen", "127.0.0.1:0"};
  words.insert(words.end(), flags.begin(), flags.end());
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  pid_ = fork();
  if (pid_ == 0) {
    dup2(log_fd_, STDOUT_FILENO);
    dup2(log_fd_, STDERR_FILENO);
    execv(program.c_str(), arguments.data());
    _exit(127);
  }
  const std::regex listening("serving address=(127\\.0\\.0\\.1:[0-9]+)");
  for (int i = 0; i < kStartSeconds * 100 && address_.empty() && !AwaitEnd(0); ++i) {
    const std::string text = log();
    std::smatch found;
    if (std::regex_search(text, found, listening)) address_ = found[1];
    absl::SleepFor(kPoll);
  }
}

ServerProcess::~ServerProcess() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    AwaitEnd(kStopSeconds);
  }
  close(log_fd_);
}

std::string ServerProcess::log() const {
  std::string text(1 << 20, '\0');
  const ssize_t size = pread(log_fd_, text.data(), text.size(), 0);
  text.resize(size > 0 ? static_cast<size_t>(size) : 0);
  return text;
}

int ServerProcess::Stop() {
  if (pid_ > 0) kill(pid_, SIGTERM);
  if (!AwaitEnd(kStopSeconds)) {
    kill(pid_, SIGKILL);
    AwaitEnd(kStopSeconds);
    return -1;
  }
  return exit_status_;
}

bool ServerProcess::AwaitEnd(int seconds) {
  for (int i = 0; pid_ > 0; ++i) {
    int status = 0;
    if (waitpid(pid_, &status, WNOHANG) == pid_) {
      pid_ = -1;
      exit_status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    } else if (i >= seconds * 100) {
      return false;
    } else {
      absl::SleepFor(kPoll);
    }
  }
  return true;
}

}  // namespace megakernel::tests
