#include "tests/torture/rig.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "engine/base/check.h"
#include "server/byte_model.h"

namespace megakernel::torture {

RigOptions::RigOptions(Fault with) : fault(with) {
  fake.vocab = kByteModelVocab;
  fake.first_token = kByteModelFirstWord;
}

std::string Left::Text() const {
  return absl::StrFormat("left: %d pages, %d streams, %d sessions, %d sequences after %.2f s", pages, calls, sessions,
                         sequences + waiting, absl::ToDoubleSeconds(settled));
}

Rig::Rig(RigOptions options) : options_(std::move(options)) {
  model_ = NewByteModel(options_.fake.max_context);
  auto executor = std::make_unique<FaultyExecutor>(options_.fake, options_.fault);
  executor_ = executor.get();
  auto engine = Engine::Create(options_.engine, model_.get(), std::move(executor), &clock_);
  MK_CHECK(engine.ok());
  engine_ = *std::move(engine);
  options_.settings.limits = {.max_context = engine_->max_context(),
                              .max_queue = options_.engine.max_queue,
                              .max_sessions = options_.engine.max_sessions};
  auto server = Server::Start(options_.settings, *engine_, clock_);
  MK_CHECK(server.ok());
  server_ = *std::move(server);
}

Rig::~Rig() {
  engine_->Shutdown(absl::ZeroDuration());
  server_->Stop(absl::Milliseconds(200));
}

std::string Rig::address() const {
  return absl::StrCat("127.0.0.1:", server_->port());
}

std::unique_ptr<client::Client> Rig::Connect() const {
  auto client = client::Client::Connect(address());
  MK_CHECK(client.ok());
  return std::move(client).value();
}

std::vector<TokenId> Rig::Expected(const std::vector<TokenId>& prompt, int count) const {
  SamplingParams greedy;
  greedy.temperature = 0;
  return FakeGenerate(options_.fake, prompt, greedy, count);
}

Left Rig::Settle(absl::Duration limit) {
  const absl::Time start = absl::Now();
  for (;;) {
    engine_->Wake();  // numbers are as of the engine's last turn
    const EngineStats stats = engine_->Stats();
    const Left left = {.pages = stats.pages_used,
                       .sessions = stats.sessions,
                       .sequences = stats.sequences_running,
                       .waiting = stats.requests_waiting,
                       .calls = static_cast<std::int64_t>(server_->open_calls()),
                       .settled = absl::Now() - start};
    if (left.nothing() || left.settled >= limit) return left;
    absl::SleepFor(absl::Milliseconds(2));
  }
}

bool Rig::Probe() const {
  const std::vector<TokenId> prompt = RandomPrompt(12345, 9);
  const Answer answer = Ask(*Connect(), TokensRequest(prompt, 10), absl::Seconds(10));
  return answer.error.ok() && answer.tokens == Expected(prompt, 10);
}

v1::GenerateRequest TokensRequest(const std::vector<TokenId>& prompt, int max_tokens, const std::string& session) {
  v1::GenerateRequest request;
  request.set_session_id(session);
  if (!prompt.empty()) request.mutable_tokens()->mutable_ids()->Add(prompt.begin(), prompt.end());
  request.mutable_sampling()->set_temperature(0);
  request.mutable_stopping()->set_max_tokens(max_tokens);
  request.mutable_stopping()->set_ignore_eos(true);
  return request;
}

std::vector<TokenId> RandomPrompt(std::uint64_t seed, int length) {
  std::mt19937_64 random(seed);
  std::uniform_int_distribution<TokenId> byte(kByteModelFirstByte, kByteModelFirstWord - 1);
  std::vector<TokenId> tokens(static_cast<std::size_t>(length));
  for (TokenId& token : tokens) token = byte(random);
  return tokens;
}

Answer Ask(client::Client& client, const v1::GenerateRequest& request, absl::Duration timeout) {
  Answer answer;
  client::CallOptions options;
  options.timeout = timeout;
  answer.error = client.Generate(
      request,
      [&](const v1::GenerateResponse& response) {
        if (response.has_started()) answer.started = response.started();
        if (response.has_finished()) answer.finished = response.finished();
        const auto& ids = response.delta().token_ids();
        answer.tokens.insert(answer.tokens.end(), ids.begin(), ids.end());
        return true;
      },
      options);
  return answer;
}

std::int64_t OpenFiles() {
  std::int64_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

std::int64_t Threads() {
  std::int64_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/task")) ++count;
  return count;
}

std::int64_t ResidentBytes() {
  std::ifstream file("/proc/self/statm");
  std::int64_t size = 0, resident = 0;
  file >> size >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

std::int64_t SettleFiles(std::int64_t limit) {
  const absl::Time deadline = absl::Now() + absl::Seconds(5);
  while (OpenFiles() > limit && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(10));
  return OpenFiles();
}

}  // namespace megakernel::torture
