// Clients that go, do not read, fall silent or have no time.
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <map>
#include <random>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "engine/base/mutex.h"
#include "megakernel/v1/inference_service.grpc.pb.h"
#include "tests/torture/rig.h"
#include "tests/torture/row.h"
#include "tests/torture/silent_proxy.h"

namespace megakernel::torture {
namespace {

using client::CallLoop;
using std::chrono::microseconds;

// Callers that each start a call, leave it at a random moment, and start the next.
class LeavingCallers {
 public:
  LeavingCallers(Rig& rig, int calls) : client_(rig.Connect()), left_(calls) {}

  void Run(int callers) {
    for (int i = 0; i < callers; ++i) Next();
    loop_.Run();
  }
  const std::map<std::string, int>& outcomes() const { return outcomes_; }

 private:
  int Pick(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }

  // Before anything, by the clock, at a token, or by a deadline.
  void Next() {
    if (left_-- <= 0) return;
    const auto cancel = std::make_shared<client::CancelToken>();
    const auto tokens = std::make_shared<int>(0);
    client::CallOptions options;
    options.cancel = cancel.get();
    const int how = Pick(0, 3);
    int at_token = 1 << 30;
    if (how == 0) at_token = Pick(1, 30);
    if (how == 1) options.timeout = absl::Microseconds(Pick(100, 20'000));
    if (how >= 2) loop_.At(CallLoop::Clock::now() + microseconds(Pick(0, 20'000)), [cancel] { cancel->Cancel(); });
    CallLoop::Handlers handlers;
    handlers.on_response = [tokens, at_token](const v1::GenerateResponse& response, CallLoop::Clock::time_point) {
      *tokens += response.delta().token_ids_size();
      return *tokens < at_token;
    };
    handlers.on_done = [this, cancel](const client::Error& error, CallLoop::Clock::time_point) {
      ++outcomes_[absl::StatusCodeToString(error.code)];
      Next();
    };
    loop_.Generate(*client_, TokensRequest(RandomPrompt(random_(), Pick(1, 200)), 16'000), options,
                   std::move(handlers));
  }

  const std::unique_ptr<client::Client> client_;
  CallLoop loop_;
  std::mt19937_64 random_{1};
  std::map<std::string, int> outcomes_;
  int left_;
};

// p99 of the times between messages of `callers` calls, in milliseconds.
double GapP99(Rig& rig, int callers, int tokens) {
  const auto client = rig.Connect();
  CallLoop loop;
  std::vector<double> gaps;
  for (int i = 0; i < callers; ++i) {
    const auto last = std::make_shared<CallLoop::Clock::time_point>();
    CallLoop::Handlers handlers;
    handlers.on_response = [&gaps, last](const v1::GenerateResponse& response, CallLoop::Clock::time_point now) {
      if (response.delta().token_ids_size() == 0) return true;
      if (*last != CallLoop::Clock::time_point()) {
        gaps.push_back(std::chrono::duration<double, std::milli>(now - *last).count());
      }
      *last = now;
      return true;
    };
    handlers.on_done = [](const client::Error&, CallLoop::Clock::time_point) {};
    loop.Generate(*client, TokensRequest(RandomPrompt(100 + static_cast<std::uint64_t>(i), 8), tokens), {},
                  std::move(handlers));
  }
  loop.Run();
  if (gaps.empty()) return 1e9;
  std::sort(gaps.begin(), gaps.end());
  return gaps[gaps.size() * 99 / 100];
}

// A call whose answers nobody takes: only its window is filled.
class NeverReader {
 public:
  explicit NeverReader(Rig& rig) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);  // a window that stays at 64 KiB
    stub_ = v1::InferenceService::NewStub(
        grpc::CreateCustomChannel(rig.address(), grpc::InsecureChannelCredentials(), arguments));
    v1::GenerateRequest request = TokensRequest({1}, 16'000);
    request.mutable_output()->set_logprobs(8);
    reader_ = stub_->Generate(&context_, request);
  }
  // How the server ended it.
  grpc::StatusCode End() {
    for (v1::GenerateResponse response; reader_->Read(&response);) {
    }
    return reader_->Finish().error_code();
  }

 private:
  std::unique_ptr<v1::InferenceService::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>> reader_;
};

// Reads a message, sleeps, reads the next, until told to stop.
class SlowReader {
 public:
  explicit SlowReader(Rig& rig) : client_(rig.Connect()), thread_([this] { Work(); }) {}
  ~SlowReader() {
    cancel_.Cancel();
    thread_.join();
  }

 private:
  void Work() {
    client::CallOptions options;
    options.cancel = &cancel_;
    (void)client_->Generate(
        TokensRequest({2}, 16'000),
        [](const v1::GenerateResponse&) {
          absl::SleepFor(absl::Milliseconds(40));
          return true;
        },
        options);
  }

  client::CancelToken cancel_;
  const std::unique_ptr<client::Client> client_;
  std::thread thread_;
};

}  // namespace

Outcome Cancellations(const Setting& setting) {
  const int calls = setting.brief ? 1'000 : 10'000;
  const absl::Duration limit = absl::Seconds(2);
  RigOptions options(setting.fault);
  options.fake.max_lanes = 32;
  options.fake.max_context = 1 << 15;
  options.fake.num_pages = 1 << 15;
  options.fake.step_time = absl::Microseconds(200);
  Rig rig(options);
  const bool first_probe = rig.Probe();
  const std::int64_t files = OpenFiles();
  std::map<std::string, int> outcomes;
  {
    LeavingCallers callers(rig, calls);
    callers.Run(64);
    outcomes = callers.outcomes();
  }
  const Left left = rig.Settle(limit);
  const std::int64_t more_files = SettleFiles(files) - files;
  const bool probe = first_probe && left.nothing() && rig.Probe();
  const int ended = outcomes["CANCELLED"] + outcomes["DEADLINE_EXCEEDED"];
  return {.figure = absl::StrFormat("%d calls, %d left early (%s); %s, %+d files; a fresh call %s", calls, ended,
                                    absl::StrJoin(outcomes, ", ", absl::PairFormatter(" ")), left.Text(), more_files,
                                    probe ? "is right" : "fails"),
          .threshold = "all left early; nothing left within 2 s; fresh call right",
          .passed = ended == calls && left.nothing() && more_files <= 0 && probe};
}

Outcome SlowReaders(const Setting& setting) {
  const int rounds = setting.brief ? 2 : 4;
  RigOptions options(setting.fault);
  options.fake.max_lanes = 16;
  options.fake.max_context = 1 << 15;
  options.fake.num_pages = 1 << 15;
  options.fake.step_time = absl::Milliseconds(2);
  options.settings.write_timeout = absl::Seconds(1);
  Rig rig(options);
  double alone = 1e9, beside = 1e9;
  bool ended = true;
  for (int round = 0; round < rounds; ++round) {
    alone = std::min(alone, GapP99(rig, 4, 300));
    std::vector<std::unique_ptr<NeverReader>> never;
    std::vector<std::unique_ptr<SlowReader>> slow;
    for (int i = 0; i < 3; ++i) {
      never.push_back(std::make_unique<NeverReader>(rig));
      slow.push_back(std::make_unique<SlowReader>(rig));
    }
    rig.executor().SetSlowReaders(true);
    beside = std::min(beside, GapP99(rig, 4, 300));
    rig.executor().SetSlowReaders(false);
    slow.clear();
    // The server ends them by itself: until then nothing is read.
    ended = ended && rig.server().WaitCalls(absl::Seconds(20));
    for (const auto& reader : never) ended = ended && reader->End() != grpc::StatusCode::OK;
  }
  const double bound = 1.5 * alone + 2;
  const Left left = rig.Settle(absl::Seconds(2));
  return {.figure = absl::StrFormat("others' p99 between messages %.2f ms beside 3 slow and 3 never readers, %.2f ms "
                                    "without (least of %d); readers that never read %s; %s",
                                    beside, alone, rounds, ended ? "were ended" : "were not ended", left.Text()),
          .threshold = absl::StrFormat("<= 1.5 x without + 2 ms = %.2f ms; all ended; nothing left", bound),
          .passed = beside <= bound && ended && left.nothing()};
}

Outcome HalfOpen(const Setting& setting) {
  constexpr int kCalls = 8;
  RigOptions options(setting.fault);
  options.fake.max_context = 1 << 15;
  options.fake.num_pages = 1 << 14;
  options.fake.step_time = absl::Milliseconds(1);
  options.settings.keepalive_time = absl::Milliseconds(500);
  options.settings.keepalive_timeout = absl::Milliseconds(500);
  if (setting.fault == Fault::kNoKeepalive) {
    options.settings.keepalive_time = options.settings.keepalive_timeout = absl::Hours(1);
  }
  const absl::Duration limit = absl::Seconds(3);
  Rig rig(options);
  SilentProxy proxy(rig.server().port());
  client::CancelToken cancel;
  Left left;
  bool began = false;
  {
    auto through = client::Client::Connect(proxy.address());
    if (!through.ok()) return {.figure = client::Describe(through.error()), .threshold = "", .passed = false};
    client::CallOptions call;
    call.cancel = &cancel;
    std::vector<std::thread> threads;
    for (int i = 0; i < kCalls; ++i) {
      threads.emplace_back([&, i] {
        (void)through.value()->Generate(
            TokensRequest({3 + i}, 16'000), [](const v1::GenerateResponse&) { return true; }, call);
      });
    }
    for (int i = 0; i < 500 && rig.server().open_calls() < kCalls; ++i) absl::SleepFor(absl::Milliseconds(10));
    began = rig.server().open_calls() == kCalls;
    proxy.FallSilent();
    left = rig.Settle(limit);
    cancel.Cancel();
    for (std::thread& thread : threads) thread.join();
  }
  const bool probe = rig.Probe();
  return {.figure = absl::StrFormat("%d streams on a connection that fell silent; %s; a fresh call %s", kCalls,
                                    left.Text(), probe ? "is right" : "fails"),
          .threshold = "nothing left within 3 s (keepalive 0.5 s + 0.5 s); fresh call right",
          .passed = began && left.nothing() && probe};
}

Outcome Deadlines(const Setting& setting) {
  struct Case {
    const char* name;
    absl::Duration step;
    int prompt;
    bool queued;  // behind a call that holds the only lane
    absl::Duration deadline;
  };
  const Case cases[] = {{"queue", absl::Milliseconds(2), 4, true, absl::Milliseconds(60)},
                        {"prefill", absl::Milliseconds(5), 4'000, false, absl::Milliseconds(100)},
                        {"one token", absl::Milliseconds(400), 4, false, absl::Milliseconds(100)}};
  std::vector<std::string> figures;
  bool passed = true;
  for (const Case& test : cases) {
    RigOptions options(setting.fault);
    options.fake.max_lanes = 1;
    options.fake.max_rows = 16;
    options.fake.max_context = 1 << 15;
    options.fake.num_pages = 1 << 12;
    options.fake.step_time = test.step;
    Rig rig(options);
    const auto client = rig.Connect();
    client::CancelToken cancel;
    client::CallOptions holding;
    holding.cancel = &cancel;
    std::thread holder([&] {
      if (!test.queued) return;
      (void)client->Generate(
          TokensRequest({3}, 16'000), [](const v1::GenerateResponse&) { return true; }, holding);
    });
    while (test.queued && rig.engine().Stats().sequences_running == 0) {
      rig.engine().Wake();
      absl::SleepFor(absl::Milliseconds(2));
    }
    const absl::Time start = absl::Now();
    const Answer answer = Ask(*client, TokensRequest(RandomPrompt(1, test.prompt), 16'000), test.deadline);
    const absl::Duration took = absl::Now() - start;
    cancel.Cancel();
    holder.join();
    // The step in flight must end first.
    const Left left = rig.Settle(test.step + absl::Seconds(1));
    const bool good = answer.error.code == absl::StatusCode::kDeadlineExceeded && left.nothing() &&
                      took < test.deadline + absl::Seconds(1);
    passed = passed && good;
    figures.push_back(
        absl::StrFormat("%s (%d ms): %s after %d ms, %s", test.name, absl::ToInt64Milliseconds(test.deadline),
                        absl::StatusCodeToString(answer.error.code), absl::ToInt64Milliseconds(took), left.Text()));
  }
  return {.figure = absl::StrJoin(figures, "; "),
          .threshold = "DEADLINE_EXCEEDED within 1 s of it; nothing left a step and 1 s later",
          .passed = passed};
}

}  // namespace megakernel::torture
