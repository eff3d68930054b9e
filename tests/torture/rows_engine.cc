// Too little memory, a device that stands still, tokens that must be the same, tenants that must not meet, a full disk.
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <latch>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "engine/core/session_file.h"
#include "tests/torture/rig.h"
#include "tests/torture/row.h"

namespace megakernel::torture {
namespace {

std::string NewSession(client::Client& client) {
  const auto session = client.CreateSession({});
  return session.ok() ? session->session_id() : "";
}

std::vector<TokenId> SessionTokens(client::Client& client, const std::string& id) {
  v1::GetSessionRequest request;
  request.set_session_id(id);
  request.set_include_tokens(true);
  const auto response = client.GetSession(request);
  if (!response.ok()) return {};
  return {response.value().token_ids().begin(), response.value().token_ids().end()};
}

// The operations of a Decode stream on `session` after its opening; the answers, without started.
struct Looped {
  std::vector<TokenId> tokens;
  std::vector<v1::OperationError> errors;
};
Looped DecodeOn(client::Client& client, const std::string& session, const std::vector<TokenId>& append,
                int max_tokens) {
  const auto stream = client.Decode();
  stream->Open(session);
  if (!append.empty()) {
    v1::AppendTokens tokens;
    tokens.mutable_tokens()->mutable_ids()->Add(append.begin(), append.end());
    stream->Append(tokens);
  }
  if (max_tokens > 0) {
    v1::DecodeTokens decode;
    decode.mutable_sampling()->set_temperature(0);
    decode.mutable_stopping()->set_max_tokens(max_tokens);
    decode.mutable_stopping()->set_ignore_eos(true);
    stream->Decode(decode);
  }
  stream->CloseSending();
  Looped looped;
  for (v1::DecodeResponse response; stream->Read(&response);) {
    const auto& ids = response.delta().token_ids();
    looped.tokens.insert(looped.tokens.end(), ids.begin(), ids.end());
    if (response.has_error()) looped.errors.push_back(response.error());
  }
  return looped;
}

constexpr char kExhausted[] = "KV_EXHAUSTED";

// Waits for a callback of the engine.
template <typename T>
class Waited {
 public:
  void Set(absl::StatusOr<T> value) {
    value_ = std::move(value);
    set_.count_down();
  }
  absl::StatusOr<T> Take() {
    set_.wait();
    return std::move(value_);
  }

 private:
  std::latch set_{1};
  absl::StatusOr<T> value_ = absl::UnknownError("not set");
};

}  // namespace

// 32 pages of 16 tokens. A session of 400 tokens holds 25 of them, and nobody may take them from it.
Outcome KvExhaustion(const Setting& setting) {
  RigOptions options(setting.fault);
  options.fake.num_pages = setting.fault == Fault::kPlenty ? 4096 : 32;
  options.fake.page_tokens = 16;
  options.fake.max_context = 512;
  options.engine.reclaim_idle_sessions = false;
  Rig rig(options);
  const auto client = rig.Connect();
  const std::string held = NewSession(*client);
  const std::vector<TokenId> prompt = RandomPrompt(1, 399);
  std::vector<std::string> figures;
  bool passed = Ask(*client, TokensRequest(prompt, 1, held)).error.ok();
  const std::vector<TokenId> before = SessionTokens(*client, held);
  passed = passed && before.size() == 400;
  const auto expect = [&](const char* what, const std::string& reason) {
    figures.push_back(absl::StrCat(what, " ", reason.empty() ? "OK" : reason));
    passed = passed && reason == kExhausted;
  };

  expect("admission:", Ask(*client, TokensRequest(RandomPrompt(2, 200), 4), absl::Seconds(10)).error.reason);
  const std::string other = NewSession(*client);
  const Looped appended = DecodeOn(*client, other, RandomPrompt(3, 200), 0);
  expect("append:", appended.errors.empty() ? "" : appended.errors[0].reason());
  v1::ForkSessionRequest fork_request;
  fork_request.set_session_id(held);
  const auto fork = client->ForkSession(fork_request);
  passed = passed && fork.ok();
  const std::string fork_id = fork.ok() ? fork->session_id() : "";
  expect("fork that grows:",
         Ask(*client, TokensRequest(RandomPrompt(4, 100), 12, fork_id), absl::Seconds(10)).error.reason);
  const Answer grown = Ask(*client, TokensRequest({5}, 250, other), absl::Seconds(10));
  expect("decode:", grown.error.reason);

  // What was refused took nothing, what had begun is as far as it was shown.
  passed = passed && SessionTokens(*client, held) == before && SessionTokens(*client, fork_id) == before;
  std::vector<TokenId> shown = {5};
  shown.insert(shown.end(), grown.tokens.begin(), grown.tokens.end());
  passed = passed && SessionTokens(*client, other) == shown &&
           grown.tokens == rig.Expected({5}, static_cast<int>(grown.tokens.size()));
  for (const std::string& id : {held, other, fork_id}) passed = client->DeleteSession(id).ok() && passed;
  const Left left = rig.Settle(absl::Seconds(2));
  passed = passed && left.nothing() && rig.Probe();
  return {
      .figure = absl::StrCat(absl::StrJoin(figures, ", "), " (after ", grown.tokens.size(), " tokens); ", left.Text()),
      .threshold = "KV_EXHAUSTED each; sessions as they were; nothing left; fresh call right",
      .passed = passed};
}

Outcome FrozenExecutor(const Setting& setting) {
  constexpr int kCalls = 4;
  const absl::Duration limit = absl::Seconds(2);
  RigOptions options(setting.fault);
  options.fake.step_time = absl::Milliseconds(1);
  options.fake.max_context = 1 << 15;
  options.fake.num_pages = 1 << 14;
  std::atomic<std::int64_t> failed_ns{0};
  Server* server = nullptr;
  options.engine.on_failure = [&](const EngineFailure&) {  // as the server's program does
    failed_ns = absl::ToUnixNanos(absl::Now());
    server->Fail();
  };
  Rig rig(options);
  server = &rig.server();
  const auto client = rig.Connect();
  std::vector<std::thread> threads;
  std::vector<client::Error> ends(kCalls);
  for (int i = 0; i < kCalls; ++i) {
    threads.emplace_back([&, i] {
      ends[static_cast<std::size_t>(i)] = Ask(*client, TokensRequest({3 + i}, 16'000), absl::Seconds(8)).error;
    });
  }
  while (rig.engine().Stats().sequences_running < kCalls) {
    rig.engine().Wake();
    absl::SleepFor(absl::Milliseconds(2));
  }
  rig.executor().fake().Stall(true);
  const absl::Time stalled = absl::Now();
  for (std::thread& thread : threads) thread.join();
  const bool noticed = failed_ns.load() != 0;
  const absl::Duration after = absl::FromUnixNanos(failed_ns.load()) - stalled;
  const auto health = client->CheckHealth();
  const bool turned = health.ok() && health.value() == client::Health::kNotServing;
  int with_reason = 0;
  for (const client::Error& end : ends) with_reason += end.reason == "EXECUTOR_FAILED" ? 1 : 0;
  rig.executor().fake().Stall(false);
  const std::string when = noticed ? absl::StrFormat("after %.2f s", absl::ToDoubleSeconds(after)) : "never";
  return {.figure = absl::StrFormat("failure reported %s, health %s; %d of %d streams ended with EXECUTOR_FAILED", when,
                                    turned ? "NOT_SERVING" : "unchanged", with_reason, kCalls),
          .threshold = "<= 2 s; NOT_SERVING; all streams with their reason",
          .passed = noticed && after <= limit && turned && with_reason == kCalls};
}

// As a stream, in one piece, by the token loop, on a session, rolled back and again, always beside other streams.
Outcome SameTokens(const Setting& setting) {
  const int prompts = setting.brief ? 10 : 100;
  constexpr int kTokens = 40;
  RigOptions options(setting.fault);
  options.fake.page_tokens = 4;
  options.fake.num_pages = 4096;
  Rig rig(options);
  const auto client = rig.Connect();
  std::atomic<bool> over{false};
  std::thread others([&] {
    const auto own = rig.Connect();
    for (std::uint64_t i = 0; !over; ++i) (void)Ask(*own, TokensRequest(RandomPrompt(1000 + i, 20), 30));
  });
  int compared = 0, different = 0;
  for (int i = 0; i < prompts; ++i) {
    const std::vector<TokenId> prompt = RandomPrompt(static_cast<std::uint64_t>(i), 1 + i % 37);
    const std::vector<TokenId> expected = rig.Expected(prompt, kTokens);
    const auto compare = [&](const std::vector<TokenId>& tokens) {
      ++compared;
      different += tokens == expected ? 0 : 1;
    };
    compare(Ask(*client, TokensRequest(prompt, kTokens)).tokens);
    std::vector<TokenId> late;  // a reader that waits gets few, large messages
    (void)client->Generate(TokensRequest(prompt, kTokens), [&](const v1::GenerateResponse& response) {
      absl::SleepFor(absl::Milliseconds(5));
      late.insert(late.end(), response.delta().token_ids().begin(), response.delta().token_ids().end());
      return true;
    });
    compare(late);
    compare(DecodeOn(*client, "", prompt, kTokens).tokens);
    const std::string session = NewSession(*client);
    compare(Ask(*client, TokensRequest(prompt, kTokens, session)).tokens);
    v1::RollbackSessionRequest rollback;
    rollback.set_session_id(session);
    rollback.set_length(static_cast<int>(prompt.size()));
    if (client->RollbackSession(rollback).ok()) compare(Ask(*client, TokensRequest({}, kTokens, session)).tokens);
    if (!client->DeleteSession(session).ok()) ++different;
  }
  over = true;
  others.join();
  return {.figure =
              absl::StrFormat("%d answers of %d prompts (stream, late reader, token loop, session, replay): %d differ",
                              compared, prompts, different),
          .threshold = absl::StrFormat("%d answers, 0 differ", 5 * prompts),
          .passed = compared == 5 * prompts && different == 0};
}

Outcome TwoTenants(const Setting& setting) {
  RigOptions options(setting.fault);
  Rig rig(options);
  const std::string first = "a", second = setting.fault == Fault::kOneTenant ? "a" : "b";
  const std::vector<TokenId> canary = RandomPrompt(7, 200);
  const auto run = [&](const std::string& tenant, const std::string& session) {
    GenerateRequest request;
    request.tenant = tenant;
    request.session_id = session;
    request.tokens = canary;
    request.max_tokens = 8;
    request.sampling.temperature = 0;
    request.ignore_eos = true;
    const auto stream = rig.engine().Generate(std::move(request));
    std::pair<int, int> seen{-1, 0};  // cached tokens, tokens
    if (!stream.ok()) return seen;
    (*stream)->SetWake([] {});
    StreamUpdate update;
    for (bool over = false; !over;) {
      absl::SleepFor(absl::Milliseconds(1));
      while (!over && (*stream)->Pop(update)) {
        for (const ChoiceUpdate& choice : update.choices) {
          seen.second += static_cast<int>(choice.tokens.size());
          if (!choice.finished) continue;
          if (choice.finished->status.ok()) seen.first = choice.finished->usage.cached_tokens;
          over = true;
        }
      }
    }
    (*stream)->Detach();
    return seen;
  };
  Waited<SessionInfo> made, read;
  rig.engine().CreateSession(first, std::nullopt, [&](auto session) { made.Set(std::move(session)); });
  const auto session = made.Take();
  if (!session.ok()) return {.figure = std::string(session.status().message()), .threshold = "", .passed = false};
  (void)run(first, session->id);
  const int own = run(first, "").first;
  const int foreign = run(second, "").first;
  rig.engine().GetSession(second, session->id, true, [&](auto other) { read.Set(std::move(other)); });
  const auto other = read.Take();
  Waited<SessionPage> listed;
  rig.engine().ListSessions(second, 100, "", [&](auto page) { listed.Set(std::move(page)); });
  const auto page = listed.Take();
  const std::size_t seen = page.ok() ? page->sessions.size() : 999;
  return {
      .figure = absl::StrFormat("prompt of 200 tokens again: %d cached for its tenant, %d for the other; the other %s "
                                "the session and lists %d",
                                own, foreign, other.ok() ? "reads" : "does not find", seen),
      .threshold = "cached for its own tenant only; session neither found nor listed",
      .passed = own > 0 && foreign == 0 && absl::IsNotFound(other.status()) && seen == 0};
}

// A limit on the size of files stands for the disk: no right of a superuser is needed.
Outcome FullDisk(const Setting& setting) {
  RigOptions options(setting.fault);
  Rig rig(options);
  const auto client = rig.Connect();
  char pattern[] = "/tmp/megakernel-torture-XXXXXX";
  if (mkdtemp(pattern) == nullptr) return {.figure = "no temporary folder", .threshold = "", .passed = false};
  const std::string folder = pattern, path = folder + "/session";
  const std::string id = NewSession(*client);
  const auto image = [&] {
    Waited<SessionImage> exported;
    rig.engine().ExportSession(kDefaultTenant, id, [&](auto made) { exported.Set(std::move(made)); });
    return exported.Take();
  };
  (void)Ask(*client, TokensRequest(RandomPrompt(1, 300), 4, id));
  const auto before = image();
  bool passed = before.ok() && WriteSessionFile(path, *before).ok();
  (void)Ask(*client, TokensRequest(RandomPrompt(2, 300), 4, id));
  const auto after = image();
  absl::Status refused;
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit old = {};
  getrlimit(RLIMIT_FSIZE, &old);
  const rlimit full = {1024, old.rlim_max};
  if (setting.fault != Fault::kDiskHasRoom) setrlimit(RLIMIT_FSIZE, &full);
  if (after.ok()) refused = WriteSessionFile(path, *after);
  setrlimit(RLIMIT_FSIZE, &old);
  const auto again = ReadSessionFile(path, rig.engine().image_format(kDefaultTenant));
  const bool intact = again.ok() && before.ok() && again->tokens == before->tokens && again->pages == before->pages;
  int files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder)) ++files;
  passed = passed && after.ok() && !refused.ok() && absl::StrContains(refused.message(), path) && intact && files == 1;
  std::filesystem::remove_all(folder);
  return {.figure =
              absl::StrFormat("save: %s; the save before it is %s; %d file in the folder",
                              refused.ok() ? "OK" : std::string(refused.message()), intact ? "intact" : "lost", files),
          .threshold = "refused naming the file; the save before intact; nothing else left",
          .passed = passed};
}

}  // namespace megakernel::torture
