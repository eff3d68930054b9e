// Sequences of Decode operations, good and bad, on the engine with the fake executor. A small model of the session says
// what each answer must be; at the end nothing is left of the call.
#include <memory>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "engine/base/check.h"
#include "engine/executor/fake_executor.h"
#include "server/byte_model.h"
#include "server/decode_call.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/input_reader.h"
#include "tests/server/fake_transport.h"

namespace megakernel {
namespace {

using Transport = testing::FakeTransport<DecodeCall, v1::DecodeRequest, v1::DecodeResponse>;

constexpr std::size_t kMaxOperations = 12;
constexpr std::int32_t kContext = 256;

// The fake device without a thread of its own: the engine's thread makes its steps when it would wait for them, which
// spares two changes of thread a token.
class SteppedExecutor final : public Executor {
 public:
  explicit SteppedExecutor(const FakeOptions& options) : fake_(options) {}

  const ExecutorInfo& info() const override { return fake_.info(); }
  absl::Status Submit(Command command) override { return fake_.Submit(std::move(command)); }
  void Drain(std::vector<Event>& events) override { fake_.Drain(events); }
  void Wait(absl::Duration timeout) override {
    if (!fake_.Step()) fake_.Wait(timeout);
  }
  void Notify() override { fake_.Notify(); }
  std::uint64_t Heartbeat() const override { return fake_.Heartbeat(); }
  absl::Status Health() const override { return fake_.Health(); }

 private:
  FakeExecutor fake_;
};

// What all inputs share; few pages, so that operations also fail for want of them.
struct Rig {
  Rig() : model(NewByteModel(kContext)), tasks(1) {
    fake.vocab = kByteModelVocab;
    fake.first_token = kByteModelFirstWord;
    fake.max_context = kContext;
    fake.page_tokens = 4;
    fake.num_pages = 64;
    fake.manual = true;
    auto made = Engine::Create({}, model.get(), std::make_unique<SteppedExecutor>(fake), &clock);
    MK_CHECK(made.ok());
    engine = *std::move(made);
    context.reset(new CallContext{.engine = *engine,
                                  .clock = clock,
                                  .encoder = PromptEncoder(*model),
                                  .tasks = tasks,
                                  .pump = loop,
                                  .live_calls = live_calls,
                                  .write_latency = write_latency,
                                  .instance_id = "fuzz"});
  }
  ~Rig() { engine->Shutdown(absl::ZeroDuration()); }

  SteadyClock clock;
  FakeOptions fake;
  std::unique_ptr<Model> model;
  std::unique_ptr<Engine> engine;
  WriteLatency write_latency;
  LiveCalls live_calls;
  TaskPool tasks;
  testing::Loop loop{testing::Loop::Runs::kWhenTold};  // by the fuzzer's thread
  std::unique_ptr<CallContext> context;
};

void FillAppend(test::InputReader& input, v1::AppendTokens& append) {
  const std::uint8_t how = input.Byte();
  const int count = input.Byte() % 70;
  if (how % 4 == 0) {
    append.set_text(std::string(input.Take(static_cast<std::size_t>(count))));
  } else if (how % 4 == 1) {
    auto& message = *append.mutable_chat()->add_messages();
    message.set_role(how % 8 == 1 ? "user" : "assistant");
    message.set_content(std::string(input.Take(static_cast<std::size_t>(count))));
  } else {
    for (int i = 0; i < count; ++i) append.mutable_tokens()->add_ids(input.Byte() + (how & 8 ? 400 : 0));
  }
  if (how & 16) append.set_expected_length(input.Byte());
}

void FillDecode(test::InputReader& input, v1::DecodeTokens& decode) {
  const std::uint8_t how = input.Byte();
  if (how & 1) {
    decode.mutable_stopping()->set_max_tokens(input.Byte() % 80);
  }
  if (how & 2) decode.mutable_stopping()->add_stop(input.Text(6));
  if (how & 4) decode.mutable_stopping()->add_stop_token_ids(kByteModelFirstWord + input.Byte());
  if (how & 8) decode.mutable_stopping()->set_min_tokens(input.Byte() % 20);
  if (how & 16) decode.mutable_output()->set_logprobs(input.Byte() % 10);
  if (how & 32) decode.mutable_output()->set_text(false);
  decode.mutable_sampling()->set_temperature(how & 64 ? 1 : 0);
  if (how & 128) decode.mutable_sampling()->set_top_p(0.5f);  // the fake does not offer it
}

v1::DecodeRequest NextOperation(test::InputReader& input, std::uint64_t id) {
  v1::DecodeRequest request;
  const std::uint8_t kind = input.Byte();
  const auto parse = [&](google::protobuf::Message& message) {
    const std::string bytes = input.Text(60);
    (void)message.ParsePartialFromString(bytes);
  };
  switch (kind % 10) {
    case 0:
      request.mutable_open()->set_session_id(input.Text(3));
      break;
    case 1:
    case 2:
      FillAppend(input, *request.mutable_append());
      break;
    case 3:
    case 4:
      FillDecode(input, *request.mutable_decode());
      break;
    case 5:
      request.mutable_roll_back()->set_length(static_cast<std::int8_t>(input.Byte()));
      break;
    case 6:
      request.mutable_cancel();
      break;
    case 7:
      parse(*request.mutable_decode());
      break;
    case 8:
      parse(*request.mutable_append());
      break;
    case 9:
      parse(request);
      break;
  }
  request.set_operation_id(id);
  return request;
}

// What the session must be after each answer.
class SessionModel {
 public:
  explicit SessionModel(const Rig& rig) : rig_(rig) {}

  // `answer` is of `request`. True when it is the last of its operation.
  bool Take(const v1::DecodeRequest& request, const v1::DecodeResponse& answer) {
    switch (answer.event_case()) {
      case v1::DecodeResponse::kStarted:
        MK_CHECK(request.has_decode() && !started_);
        MK_CHECK(answer.started().prompt_tokens() == length());
        started_ = true;
        return false;
      case v1::DecodeResponse::kDelta:
        MK_CHECK(request.has_decode() && started_);
        for (const TokenId token : answer.delta().token_ids()) output_.push_back(token);
        return false;
      case v1::DecodeResponse::kFinished:
        return TakeFinished(request.decode(), answer.finished());
      case v1::DecodeResponse::kError:
        MK_CHECK(answer.error().code() != 0 && !answer.error().reason().empty() && !answer.error().message().empty());
        return TakeError(request, answer.error());
      case v1::DecodeResponse::kOpened:
        MK_CHECK(request.has_open() && answer.opened().length() == 0);
        return true;
      case v1::DecodeResponse::kAppended:
        MK_CHECK(request.has_append());
        TakeAppend(request.append());
        MK_CHECK(answer.appended().length() == length());
        return true;
      case v1::DecodeResponse::kRolledBack:
        MK_CHECK(request.has_roll_back() && request.roll_back().length() <= length());
        tokens_.resize(static_cast<std::size_t>(request.roll_back().length()));
        MK_CHECK(answer.rolled_back().length() == length());
        return true;
      case v1::DecodeResponse::kCancelled:
        MK_CHECK(request.has_cancel() && answer.cancelled().length() == length());
        return true;
      case v1::DecodeResponse::EVENT_NOT_SET:
        break;
    }
    MK_CHECK(false);
    return false;
  }

 private:
  std::int32_t length() const { return static_cast<std::int32_t>(tokens_.size()); }

  void TakeAppend(const v1::AppendTokens& append) {
    std::vector<TokenId> added;
    if (append.has_tokens()) added.assign(append.tokens().ids().begin(), append.tokens().ids().end());
    if (append.has_text()) added = rig_.context->encoder.EncodeText(append.text(), tokens_.empty());
    if (append.has_chat()) added = *rig_.context->encoder.EncodeChat(append.chat(), tokens_, "chat");
    tokens_.insert(tokens_.end(), added.begin(), added.end());
  }

  // A greedy output is what the fake makes of exactly these tokens.
  void CheckOutput(const v1::DecodeTokens& decode, std::int32_t count) const {
    const bool listed = !decode.output().has_token_ids() || decode.output().token_ids();
    MK_CHECK(!listed || static_cast<std::int32_t>(output_.size()) == count);
    const v1::SamplingParameters& s = decode.sampling();
    if (!listed || !s.has_temperature() || s.temperature() != 0 || s.allowed_token_ids_size() > 0) return;
    SamplingParams greedy;
    greedy.temperature = 0;
    greedy.min_tokens = decode.stopping().min_tokens();  // until then a stop token is not chosen
    const auto& stop = decode.stopping().stop_token_ids();
    greedy.stop_tokens.assign(stop.begin(), stop.end());
    if (!decode.stopping().ignore_eos()) {
      const std::vector<TokenId>& eos = rig_.model->config().eos_tokens;
      greedy.stop_tokens.insert(greedy.stop_tokens.end(), eos.begin(), eos.end());
    }
    MK_CHECK(output_ == FakeGenerate(rig_.fake, tokens_, greedy, count));
  }

  bool TakeFinished(const v1::DecodeTokens& decode, const v1::GenerationFinished& finished) {
    MK_CHECK(started_ || finished.reason() == v1::FINISH_REASON_CANCELLED);
    const std::int32_t count = finished.usage().completion_tokens();
    CheckOutput(decode, count);
    if (output_.empty()) output_.resize(static_cast<std::size_t>(count));  // not listed: their number is enough
    EndOutput();
    MK_CHECK(!started_ || finished.session_length() == length());
    started_ = false;
    return true;
  }

  // What was handed over before it failed is in the session.
  bool TakeError(const v1::DecodeRequest& request, const v1::OperationError& error) {
    EndOutput();
    started_ = false;
    if (error.length() != length()) {  // an append that was cancelled after its prompt became the session's
      MK_CHECK(request.has_append() && error.length() > length());
      TakeAppend(request.append());
      MK_CHECK(error.length() == length());
    }
    return true;
  }

  void EndOutput() {
    tokens_.insert(tokens_.end(), output_.begin(), output_.end());
    output_.clear();
  }

  const Rig& rig_;
  std::vector<TokenId> tokens_;
  std::vector<TokenId> output_;  // of the decode that runs
  bool started_ = false;
};

// Each operation has exactly one last answer, and they come in order; all of them unless the client went.
void CheckAnswers(const Rig& rig, const std::vector<v1::DecodeRequest>& requests,
                  const std::vector<v1::DecodeResponse>& answers, bool all) {
  SessionModel session(rig);
  std::size_t next = 0;
  for (const v1::DecodeResponse& answer : answers) {
    MK_CHECK(next < requests.size() && answer.operation_id() == requests[next].operation_id());
    if (session.Take(requests[next], answer)) ++next;
  }
  MK_CHECK(!all || next == requests.size());
}

void CheckNothingLeft(Rig& rig) {
  MK_CHECK(rig.engine->WaitIdle(absl::Seconds(20)));
  MK_CHECK(rig.live_calls.WaitEmpty(absl::Seconds(20)));
  EngineStats stats = rig.engine->Stats();
  for (int i = 0; i < 20'000 && (stats.sessions > 0 || stats.pages_used > 0); ++i) {  // as of the engine's last turn
    rig.engine->Wake();
    absl::SleepFor(absl::Microseconds(i < 1000 ? 10 : 1000));
    stats = rig.engine->Stats();
  }
  MK_CHECK(stats.sessions == 0 && stats.pages_used == 0 && stats.sequences_running == 0);
  MK_CHECK(rig.engine->Health().ok());
}

}  // namespace
}  // namespace megakernel

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace megakernel;
  static Rig rig;
  test::InputReader input(data, size);
  const std::uint8_t head = input.Byte();
  const bool breaks = (head & 1) != 0;
  const std::size_t break_after = head >> 2;
  std::vector<v1::DecodeRequest> requests;
  if ((head & 2) == 0) {
    requests.emplace_back().mutable_open();
    requests.back().set_operation_id(100);
  }
  while (!input.empty() && requests.size() < kMaxOperations) {
    requests.push_back(NextOperation(input, requests.size() + 1));
  }
  {
    Transport transport(rig.loop);
    const auto call = std::make_shared<DecodeCall>(*rig.context, transport);
    transport.Attach(call);
    if (breaks) transport.BreakAfter(break_after);
    call->Start(absl::InfiniteFuture());
    for (const v1::DecodeRequest& request : requests) transport.Send(request);
    transport.CloseSending();
    while (!transport.done()) rig.loop.RunOne();
    MK_CHECK(breaks || transport.done()->ok());
    CheckAnswers(rig, requests, transport.received(), !breaks);
  }
  CheckNothingLeft(rig);
  return 0;
}
