// What the server costs: the whole path from the fake executor's events to a client on the same machine.
//
// For steps of 1 ms and of 0 ms, with 1 and 64 streams: how long each token takes from the engine's drain of its event
// to gRPC's acceptance of the message that carries it, and tokens per second. The client is another process on the same
// processors.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "engine/base/clock.h"
#include "engine/core/engine.h"
#include "engine/executor/fake_executor.h"
#include "nlohmann/json.hpp"
#include "server/byte_model.h"
#include "server/server.h"
#include "tests/bench/arguments.h"
#include "tests/bench/cpu_time.h"
#include "tests/bench/serve_client.h"
#include "tests/bench/subcommand.h"

namespace megakernel::bench {
namespace {

using Json = nlohmann::ordered_json;

// The bars of a step of 1 ms.
constexpr double kMaxP50Ms = 0.2;
constexpr double kMaxP99Ms = 1.0;
constexpr int kWarmTokens = 200;
constexpr int kStreams[] = {1, 64};

constexpr Option kOptions[] = {
    {"tokens-1ms", "N", "2000", "tokens of each stream at steps of 1 ms"},
    {"tokens-0ms", "N", "20000", "tokens of each stream at steps of 0 ms"},
    {"connections", "N", "4", "connections that the streams share"},
};

struct Setup {
  absl::Duration step;
  int streams = 1;
  int tokens = 0;
  int connections = 1;
};

class ServingPath {
 public:
  // Null when it cannot start; says why on stderr.
  static std::unique_ptr<ServingPath> Start(const Setup& setup) {
    auto path = std::make_unique<ServingPath>();
    FakeOptions fake;
    fake.max_lanes = setup.streams;
    fake.vocab = kByteModelVocab;
    fake.first_token = kByteModelFirstWord;
    fake.page_tokens = 64;
    fake.max_context = setup.tokens + 64;
    fake.num_pages = setup.streams * (fake.max_context / fake.page_tokens + 1);
    fake.step_time = setup.step;
    path->model_ = NewByteModel(fake.max_context);
    EngineOptions options;
    options.stream_buffer = 1 << 20;  // a client that is late gets larger messages; here nobody is cut off
    auto engine = Engine::Create(options, path->model_.get(), std::make_unique<FakeExecutor>(fake), &path->clock_);
    if (!engine.ok()) return Failed(engine.status());
    path->engine_ = *std::move(engine);
    auto server = Server::Start(ServerSettings(), *path->engine_, path->clock_);
    if (!server.ok()) return Failed(server.status());
    path->server_ = *std::move(server);
    path->client_ = ClientProcess::Start(path->server_->port(), setup.connections);
    if (path->client_ == nullptr) return nullptr;
    return path;
  }

  ~ServingPath() {
    if (engine_ != nullptr) engine_->Shutdown(absl::ZeroDuration());
  }

  ClientProcess& client() { return *client_; }
  WriteLatency& latency() { return server_->write_latency(); }

 private:
  static std::unique_ptr<ServingPath> Failed(const absl::Status& status) {
    std::fprintf(stderr, "megakernel-bench serve: %s\n", std::string(status.message()).c_str());
    return nullptr;
  }

  SteadyClock clock_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<ClientProcess> client_;
};

// One row of the report; empty when the run failed.
Json Measure(const Setup& setup) {
  const std::unique_ptr<ServingPath> path = ServingPath::Start(setup);
  if (path == nullptr || !path->client().Run(setup.streams, std::min(kWarmTokens, setup.tokens))) return {};
  path->latency().Reset();
  const double cpu_start = CpuSeconds();
  const std::optional<ClientRun> run = path->client().Run(setup.streams, setup.tokens);
  const double cpu_seconds = CpuSeconds() - cpu_start;
  if (!run || run->received != std::int64_t{setup.streams} * setup.tokens) return {};
  const double tokens = static_cast<double>(run->received);
  const auto ms = [&](double q) { return absl::ToDoubleMilliseconds(path->latency().Quantile(q)); };
  return {{"step_ms", absl::ToDoubleMilliseconds(setup.step)},
          {"streams", setup.streams},
          {"connections", setup.connections},
          {"tokens_per_stream", setup.tokens},
          {"tokens_measured", path->latency().count()},
          {"drained_to_accepted_p50_ms", ms(0.5)},
          {"drained_to_accepted_p99_ms", ms(0.99)},
          {"drained_to_accepted_max_ms", ms(1)},
          {"tokens_per_message", tokens / static_cast<double>(run->messages)},
          {"server_cpu_us_per_token", cpu_seconds * 1e6 / tokens},  // the fake device included
          {"client_cpu_us_per_token", run->cpu_seconds * 1e6 / tokens},
          {"cpus_used", (cpu_seconds + run->cpu_seconds) / run->seconds},
          {"tokens_per_s_stream", tokens / run->seconds / setup.streams},
          {"tokens_per_s_total", tokens / run->seconds}};
}

}  // namespace

int RunServe(std::span<const std::string> args) {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);  // as the server does
  int exit_status = 0;
  const auto arguments = ParseOrHelp("serve", "what the server adds to a token", args, kOptions, &exit_status);
  if (!arguments) return exit_status;
  const auto paced = arguments->Int("tokens-1ms", 1, 1'000'000);
  const auto unpaced = arguments->Int("tokens-0ms", 1, 1'000'000);
  const auto connections = arguments->Int("connections", 1, 64);
  for (const auto* value : {&paced, &unpaced, &connections}) {
    if (value->ok()) continue;
    std::fprintf(stderr, "megakernel-bench serve: %s\n", std::string(value->status().message()).c_str());
    return 2;
  }
  Json rows = Json::array();
  bool within = true;
  for (const bool pace : {true, false}) {
    for (const int streams : kStreams) {
      const Setup setup = {.step = pace ? absl::Milliseconds(1) : absl::ZeroDuration(),
                           .streams = streams,
                           .tokens = static_cast<int>(pace ? *paced : *unpaced),
                           .connections = static_cast<int>(std::min<std::int64_t>(*connections, streams))};
      const Json row = Measure(setup);
      if (row.empty()) return 1;
      if (pace) {
        within =
            within && row["drained_to_accepted_p50_ms"] <= kMaxP50Ms && row["drained_to_accepted_p99_ms"] <= kMaxP99Ms;
      }
      rows.push_back(row);
    }
  }
  const Json report = {
      {"bench", "serve"}, {"bar_p50_ms", kMaxP50Ms}, {"bar_p99_ms", kMaxP99Ms}, {"within", within}, {"runs", rows}};
  std::printf("%s\n", report.dump(2).c_str());
  return within ? 0 : 1;
}

}  // namespace megakernel::bench
