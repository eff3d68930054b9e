// The parent's side: one line per order, one line per answer.
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cinttypes>
#include <cstring>
#include <string>

#include "tests/bench/serve_client.h"

extern char** environ;

namespace megakernel::bench {

std::unique_ptr<ClientProcess> ClientProcess::Start(int port, int connections) {
  int orders[2], answers[2];
  if (pipe2(orders, O_CLOEXEC) != 0 || pipe2(answers, O_CLOEXEC) != 0) {
    std::fprintf(stderr, "megakernel-bench serve: no pipe: %s\n", std::strerror(errno));
    return nullptr;
  }
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, orders[0], STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, answers[1], STDOUT_FILENO);
  std::string arguments[] = {"megakernel-bench", "serve-client", "--port=" + std::to_string(port),
                             "--connections=" + std::to_string(connections)};
  char* argv[] = {arguments[0].data(), arguments[1].data(), arguments[2].data(), arguments[3].data(), nullptr};
  std::unique_ptr<ClientProcess> client(new ClientProcess);
  const int error = posix_spawn(&client->pid_, "/proc/self/exe", &actions, nullptr, argv, environ);
  posix_spawn_file_actions_destroy(&actions);
  close(orders[0]);
  close(answers[1]);
  client->orders_ = fdopen(orders[1], "w");
  client->answers_ = fdopen(answers[0], "r");
  if (error == 0) return client;
  client->pid_ = -1;
  std::fprintf(stderr, "megakernel-bench serve: the client does not start: %s\n", std::strerror(error));
  return nullptr;
}

ClientProcess::~ClientProcess() {
  std::fclose(orders_);  // its end of orders
  std::fclose(answers_);
  if (pid_ > 0) waitpid(pid_, nullptr, 0);
}

std::optional<ClientRun> ClientProcess::Run(int streams, int tokens) {
  ClientRun run;
  std::fprintf(orders_, "%d %d\n", streams, tokens);
  std::fflush(orders_);
  if (std::fscanf(answers_, "%" SCNd64 " %" SCNd64 " %lf %lf", &run.received, &run.messages, &run.seconds,
                  &run.cpu_seconds) != 4) {
    return std::nullopt;  // it said why
  }
  return run;
}

}  // namespace megakernel::bench
