// Many connections, limits of messages, clocks, and much time.
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <map>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "megakernel/v1/inference_service.grpc.pb.h"
#include "tests/torture/rig.h"
#include "tests/torture/row.h"

namespace megakernel::torture {
namespace {

using client::CallLoop;

// Callers that make one call after the other for some time, each on a connection of its own or on a shared one.
class BusyCallers {
 public:
  BusyCallers(Rig& rig, int connections) : rig_(rig) {
    for (int i = 0; i < connections; ++i) clients_.push_back(rig.Connect());
  }

  // `calls` of `tokens` tokens each; all of them when `until` is over first. Every 10th is left after its first token
  // when `leave`.
  void Run(int callers, std::int64_t calls, absl::Duration time, int tokens, bool leave,
           std::function<void(std::int64_t)> on_ended = nullptr) {
    left_ = calls;
    tokens_ = tokens;
    leave_ = leave;
    on_ended_ = std::move(on_ended);
    until_ = CallLoop::Clock::now() + absl::ToChronoNanoseconds(time);
    for (int i = 0; i < callers; ++i) Next(*clients_[static_cast<std::size_t>(i) % clients_.size()]);
    loop_.Run();
  }
  std::int64_t ended() const { return ended_; }
  std::int64_t wrong() const { return wrong_; }
  std::int64_t retried() const { return retried_; }
  const std::map<std::string, std::int64_t>& failures() const { return failures_; }

 private:
  static constexpr int kTries = 3;

  void Next(client::Client& client) {
    if (left_-- <= 0 || CallLoop::Clock::now() > until_) return;
    const bool leaves = leave_ && begun_ % 10 == 0;
    Call(client, RandomPrompt(begun_++ % 50, 8), leaves, kTries);
  }

  // Tries again what the API says may be tried again: UNAVAILABLE before the first message.
  void Call(client::Client& client, const std::vector<TokenId>& prompt, bool leaves, int tries) {
    const auto got = std::make_shared<std::vector<TokenId>>();
    const auto messages = std::make_shared<int>(0);
    CallLoop::Handlers handlers;
    handlers.on_response = [got, messages, leaves](const v1::GenerateResponse& response, CallLoop::Clock::time_point) {
      ++*messages;
      got->insert(got->end(), response.delta().token_ids().begin(), response.delta().token_ids().end());
      return !leaves || got->empty();
    };
    handlers.on_done = [this, &client, got, messages, leaves, prompt, tries](const client::Error& error,
                                                                             CallLoop::Clock::time_point) {
      if (error.code == absl::StatusCode::kUnavailable && *messages == 0 && tries > 1) {
        ++retried_;
        return Call(client, prompt, leaves, tries - 1);
      }
      ++ended_;
      if (!error.ok() && !(leaves && error.code == absl::StatusCode::kCancelled)) {
        ++failures_[absl::StrCat(client::Describe(error), " after ", got->size(), " tokens")];
      }
      if (error.ok() && *got != rig_.Expected(prompt, tokens_)) ++wrong_;
      if (on_ended_ != nullptr) on_ended_(ended_);
      Next(client);
    };
    loop_.Generate(client, TokensRequest(prompt, tokens_), {}, std::move(handlers));
  }

  Rig& rig_;
  std::vector<std::unique_ptr<client::Client>> clients_;
  CallLoop loop_;
  std::int64_t left_ = 0, ended_ = 0, wrong_ = 0, retried_ = 0;
  std::uint64_t begun_ = 0;
  int tokens_ = 1;
  bool leave_ = false;
  CallLoop::Clock::time_point until_;
  std::map<std::string, std::int64_t> failures_;
  std::function<void(std::int64_t)> on_ended_;
};

std::string FailureText(const std::map<std::string, std::int64_t>& failures) {
  return failures.empty() ? "0 failed" : absl::StrJoin(failures, "; ", absl::PairFormatter(": "));
}

// How the server answers a Tokenize call of `text_bytes`, with `fill` bytes in a header of its own. Without a deadline:
// it would be a header, too, some bytes longer or shorter with the time that is left. What hangs ends with its row.
grpc::Status Tokenize(v1::InferenceService::Stub& stub, std::size_t text_bytes, std::size_t fill) {
  grpc::ClientContext context;
  if (fill > 0) context.AddMetadata("x-fill", std::string(fill, 'f'));
  v1::TokenizeRequest request;
  request.set_text(std::string(text_bytes, 't'));
  v1::TokenizeResponse response;
  const grpc::Status status = stub.Tokenize(&context, request, &response);
  if (status.ok() && static_cast<std::size_t>(response.token_ids_size()) != text_bytes) {
    return {grpc::StatusCode::DATA_LOSS, "tokens are missing"};
  }
  return status;
}

}  // namespace

Outcome Connections(const Setting& setting) {
  const int connections = setting.brief ? 100 : 1'000;
  const absl::Duration time = absl::Seconds(setting.brief ? 3 : 15);
  const absl::Duration age = absl::Milliseconds(500);
  RigOptions options(setting.fault);
  options.fake.max_lanes = 64;
  options.fake.num_pages = 1 << 14;
  options.fake.step_time = absl::Milliseconds(1);
  options.engine.max_queue = 2'000;
  options.settings.max_connection_age = age;
  Rig rig(options);
  bool probe = rig.Probe();
  const std::int64_t files = OpenFiles();
  std::int64_t ended = 0, wrong = 0, retried = 0;
  std::map<std::string, std::int64_t> failures;
  {
    BusyCallers callers(rig, connections);
    callers.Run(connections, 1 << 30, time, 20, false);
    ended = callers.ended();
    wrong = callers.wrong();
    retried = callers.retried();
    failures = callers.failures();
  }
  const Left left = rig.Settle(absl::Seconds(5));
  const std::int64_t more_files = SettleFiles(files) - files;
  probe = probe && left.nothing() && rig.Probe();
  return {.figure = absl::StrFormat(
              "%d connections, each sent away every %.1f s, %d calls in %d s: %s, %d "
              "wrong, %d tried again after UNAVAILABLE before a message; %s, %+d files; a fresh call %s",
              connections, absl::ToDoubleSeconds(age), ended, absl::ToInt64Seconds(time), FailureText(failures), wrong,
              retried, left.Text(), more_files, probe ? "is right" : "fails"),
          .threshold = "0 failed, 0 wrong, <= 1 % tried again; nothing left; fresh call right",
          .passed = failures.empty() && wrong == 0 && retried * 100 <= ended && ended >= connections &&
                    left.nothing() && more_files <= 0 && probe};
}

Outcome Sizes(const Setting& setting) {
  constexpr std::size_t kLimit = 65'536;
  constexpr std::size_t kFraming = 4;  // tag and length of a text of this size
  RigOptions options(setting.fault);
  options.settings.max_request_bytes = setting.fault == Fault::kSmallRequest ? kLimit - 1 : kLimit;
  Rig rig(options);
  // Each on a connection of its own: gRPC may close one on which a header was far beyond the limit, a moment later.
  grpc::ChannelArguments own;
  own.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  const auto code = [&](std::size_t text, std::size_t fill) {
    const auto channel = grpc::CreateCustomChannel(rig.address(), grpc::InsecureChannelCredentials(), own);
    return static_cast<int>(Tokenize(*v1::InferenceService::NewStub(channel), text, fill).error_code());
  };
  const int at = code(kLimit - kFraming, 0), above = code(kLimit - kFraming + 1, 0);
  // The largest header that passes, found by halving.
  std::size_t passes = 0, refused = 64 << 10;
  const int far_above = code(10, refused);
  while (refused - passes > 1) {
    const std::size_t middle = (passes + refused) / 2;
    (code(10, middle) == grpc::StatusCode::OK ? passes : refused) = middle;
  }
  const bool probe = rig.Probe() && code(10, passes) == grpc::StatusCode::OK;
  return {
      .figure = absl::StrFormat("request of %d bytes: code %d, one more: %d; header of %d bytes: OK, one more: %d; a "
                                "fresh call %s",
                                kLimit, at, above, passes, far_above, probe ? "is right" : "fails"),
      .threshold =
          "OK (0) at the limit, RESOURCE_EXHAUSTED (8) above; header limit within 4 to 16 KiB; fresh call right",
      .passed = at == grpc::StatusCode::OK && above == grpc::StatusCode::RESOURCE_EXHAUSTED &&
                far_above == grpc::StatusCode::RESOURCE_EXHAUSTED && passes >= 4 << 10 && passes <= 16 << 10 && probe};
}

// The engine's clock goes back an hour and returns, again and again, under load. Then it goes forward past the time
// that an idle session has: that one is gone, and nothing else happens.
Outcome ClockJumps(const Setting& setting) {
  const int jumps = setting.brief ? 30 : 300;
  RigOptions options(setting.fault);
  options.fake.step_time = absl::Microseconds(500);
  options.fake.max_lanes = 16;
  Rig rig(options);
  const auto client = rig.Connect();
  const auto session = client->CreateSession({});
  if (!session.ok()) return {.figure = client::Describe(session.error()), .threshold = "", .passed = false};
  std::atomic<bool> over{false};
  std::thread jumping([&] {
    const absl::Duration other = setting.fault == Fault::kForwardClock ? absl::Hours(1) : -absl::Hours(1);
    for (int i = 0; i < jumps; ++i) {
      rig.clock().SetOffset(i % 2 == 0 ? other : absl::ZeroDuration());
      absl::SleepFor(absl::Milliseconds(10));
    }
    rig.clock().SetOffset(absl::ZeroDuration());
    over = true;
  });
  std::int64_t calls = 0, wrong = 0, negative = 0;
  while (!over) {
    const std::vector<TokenId> prompt = RandomPrompt(static_cast<std::uint64_t>(calls), 10);
    const Answer answer = Ask(*client, TokensRequest(prompt, 20));
    ++calls;
    wrong += answer.error.ok() && answer.tokens == rig.Expected(prompt, 20) ? 0 : 1;
    const v1::Timings& timings = answer.finished.timings();
    negative += timings.queue_ns() < 0 || timings.prefill_ns() < 0 || timings.decode_ns() < 0 ? 1 : 0;
  }
  jumping.join();
  const auto get = [&] {
    v1::GetSessionRequest request;
    request.set_session_id(session->session_id());
    return client->GetSession(request);
  };
  const bool kept = get().ok();
  rig.clock().SetOffset(options.engine.session_ttl + absl::Minutes(1));
  rig.engine().Wake();
  absl::SleepFor(absl::Milliseconds(100));
  const auto gone = get();
  const std::string reason = gone.ok() ? "OK" : gone.error().reason;
  rig.clock().SetOffset(absl::ZeroDuration());
  const Left left = rig.Settle(absl::Seconds(2));
  const bool probe = rig.Probe();
  return {.figure = absl::StrFormat(
              "%d jumps of an hour under %d calls: %d wrong, %d with negative times, the idle session "
              "%s; past its time to live: %s; %s; a fresh call %s",
              jumps, calls, wrong, negative, kept ? "kept" : "lost", reason, left.Text(), probe ? "is right" : "fails"),
          .threshold = "0 wrong, 0 negative; session kept, then SESSION_EXPIRED; nothing left; fresh call right",
          .passed = calls > 0 && wrong == 0 && negative == 0 && kept && reason == "SESSION_EXPIRED" && left.nothing() &&
                    probe};
}

Outcome Soak(const Setting& setting) {
  const std::int64_t calls = setting.brief ? 6'000 : 100'000;
  constexpr std::int64_t kGrowthLimit = 16 << 20;
  RigOptions options(setting.fault);
  options.fake.max_lanes = 32;
  options.fake.num_pages = 1 << 13;
  Rig rig(options);
  bool probe = rig.Probe();
  std::int64_t settled_bytes = 0, settled_files = 0, settled_threads = 0;
  std::int64_t ended = 0, wrong = 0, bytes = 0, files = 0, threads = 0;
  std::map<std::string, std::int64_t> failures;
  absl::Duration took;
  {
    BusyCallers callers(rig, 4);
    const absl::Time start = absl::Now();
    // What is there after a third of the calls is what serving takes; only growth after that counts.
    callers.Run(32, calls, absl::Hours(1), 4, true, [&](std::int64_t count) {
      if (count != calls / 3) return;
      settled_bytes = ResidentBytes();
      settled_files = OpenFiles();
      settled_threads = Threads();
    });
    took = absl::Now() - start;
    bytes = ResidentBytes() - settled_bytes;
    files = OpenFiles() - settled_files;
    threads = Threads() - settled_threads;
    ended = callers.ended();
    wrong = callers.wrong();
    failures = callers.failures();
  }
  const Left left = rig.Settle(absl::Seconds(2));
  probe = probe && left.nothing() && rig.Probe();
  const double per_thousand = static_cast<double>(bytes) / 1024 / (static_cast<double>(calls) * 2 / 3 / 1000);
  return {.figure = absl::StrFormat(
              "%d calls (a tenth left early) in %.1f s: %s, %d wrong; after the first third %+.1f MiB "
              "resident (%+.2f KiB per 1,000 calls), %+d files, %+d threads; %s; a fresh call %s",
              ended, absl::ToDoubleSeconds(took), FailureText(failures), wrong, static_cast<double>(bytes) / (1 << 20),
              per_thousand, files, threads, left.Text(), probe ? "is right" : "fails"),
          .threshold = "0 failed, 0 wrong; <= 16 MiB more, no more files, threads +-4; nothing left; fresh call right",
          .passed = ended == calls && failures.empty() && wrong == 0 && bytes <= kGrowthLimit && files <= 0 &&
                    threads <= 4 && left.nothing() && probe};
}

}  // namespace megakernel::torture
