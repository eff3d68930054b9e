#include "clients/cli/load_run.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace megakernel::cli {
namespace {

constexpr auto kProgressInterval = std::chrono::milliseconds(200);
constexpr char kSlowConsumer[] = "SLOW_CONSUMER";

double Milliseconds(std::chrono::steady_clock::duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

// "UNAVAILABLE DRAINING": what errors are counted by.
std::string Kind(const client::Error& error) {
  return absl::StrCat(absl::StatusCodeToString(error.code), error.reason.empty() ? "" : " ", error.reason);
}

}  // namespace

// One that waits for its answer before it calls again.
struct LoadRun::Caller {
  client::Client* connection = nullptr;
  std::string session;     // empty: none
  std::int32_t turns = 0;  // made on it
  bool once = false;       // of an open loop: goes when its call, or its session, is over
};

struct LoadRun::Call {
  Clock::time_point due, first, last;
  std::int64_t tokens = 0;
  std::int64_t messages = 0;
  std::int32_t completion_tokens = -1;  // as the server says at the end
  std::vector<float> itl, message_gap;  // milliseconds
  bool cancels = false;
  bool cancelled = false;
  bool slow = false;

  void Take(const v1::GenerateResponse& response, Clock::time_point now) {
    if (response.has_finished()) completion_tokens = response.finished().usage().completion_tokens();
    const int count = response.delta().token_ids_size();
    if (count == 0) return;
    if (tokens == 0) {
      first = now;
    } else {
      message_gap.push_back(static_cast<float>(Milliseconds(now - last)));
      itl.push_back(message_gap.back());
    }
    itl.insert(itl.end(), static_cast<std::size_t>(count - 1), 0.0f);
    last = now;
    tokens += count;
    ++messages;
  }
  double tpot() const { return Milliseconds(last - first) / static_cast<double>(tokens - 1); }

  bool Meets(const LoadObjective& objective) const {
    const auto within = [](const std::optional<double>& bound, double value) { return !bound || value <= *bound; };
    std::int64_t long_gaps = 0;
    for (const float gap : itl) long_gaps += within(objective.itl_ms, gap) ? 0 : 1;
    return within(objective.ttft_ms, Milliseconds(first - due)) && within(objective.e2e_ms, Milliseconds(last - due)) &&
           within(objective.tpot_ms, tokens > 1 ? tpot() : 0) &&
           long_gaps * 100 <= static_cast<std::int64_t>(itl.size());
  }
};

LoadRun::LoadRun(const LoadSettings& settings, LoadTarget& target, std::int32_t concurrency, double rate)
    : settings_(settings), target_(target), concurrency_(concurrency), rate_(rate), random_(settings.seed) {
  std::uniform_int_distribution<std::int32_t> id(target.vocab_size / 4, target.vocab_size * 3 / 4);
  for (std::int32_t i = 0; i < settings.shared_prefix; ++i) prefix_.push_back(id(random_));
}

LoadRun::~LoadRun() = default;

LoadResult LoadRun::Run(std::int64_t calls, double seconds, OnProgress on_progress) {
  calls_ = seconds > 0 ? 0 : calls;
  on_progress_ = std::move(on_progress);
  begin_ = last_end_ = Clock::now();
  deadline_ = begin_ + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  if (rate_ > 0) {
    arrivals_over_ = false;
    ScheduleArrival(begin_);
  }
  for (std::int32_t i = 0; rate_ <= 0 && i < concurrency_; ++i) {
    auto caller = std::make_shared<Caller>();
    caller->connection = &NextConnection();
    Next(caller, begin_);
  }
  if (on_progress_ != nullptr) ScheduleProgress();
  loop_.Run();
  result_.concurrency = concurrency_;
  result_.rate = rate_;
  result_.seconds = std::chrono::duration<double>(last_end_ - begin_).count();
  return std::move(result_);
}

bool LoadRun::MayBegin(Clock::time_point due) const {
  if (target_.stop != nullptr && *target_.stop) return false;
  return calls_ > 0 ? begun_ < calls_ : due < deadline_;
}

// The arrivals do not depend on how long anything takes: each is due a random time after the one before it was due.
void LoadRun::ScheduleArrival(Clock::time_point due) {
  const double gap = std::exponential_distribution<double>(rate_)(random_);
  const auto next = due + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(gap));
  loop_.At(next, [this, next] {
    arrivals_over_ = !MayBegin(next);
    if (arrivals_over_) return;
    auto caller = std::make_shared<Caller>();
    caller->connection = &NextConnection();
    caller->once = true;
    Next(caller, next);
    ScheduleArrival(next);
  });
}

void LoadRun::ScheduleProgress() {
  loop_.At(Clock::now() + kProgressInterval, [this] {
    const double share = calls_ > 0 ? static_cast<double>(result_.sent) / static_cast<double>(calls_)
                                    : Milliseconds(Clock::now() - begin_) / Milliseconds(deadline_ - begin_);
    on_progress_(std::min(share, 1.0), running_, result_);
    if (running_ > 0 || !arrivals_over_) ScheduleProgress();
  });
}

client::Client& LoadRun::NextConnection() {
  return *target_.connections[next_connection_++ % target_.connections.size()];
}

void LoadRun::Next(const std::shared_ptr<Caller>& caller, Clock::time_point due) {
  if (!MayBegin(due)) return LeaveSession(caller, [] {});
  ++begun_;
  ++running_;
  if (settings_.turns == 0 || !caller->session.empty()) return Send(caller, due);
  loop_.CreateSession(*caller->connection, target_.call_options,
                      [this, caller, due](client::Result<v1::Session> session) {
                        if (session.ok()) {
                          caller->session = session->session_id();
                          caller->turns = 0;
                          return Send(caller, due);
                        }
                        Call call;
                        End(caller, call, session.error(), Clock::now());
                      });
}

void LoadRun::Send(const std::shared_ptr<Caller>& caller, Clock::time_point due) {
  const auto draw = [this](double share) { return std::uniform_real_distribution<>()(random_) < share; };
  auto call = std::make_shared<Call>();
  call->due = due;
  call->cancels = settings_.cancel_at > 0 && draw(settings_.cancel_share);
  call->slow = settings_.read_delay_ms > 0 && draw(settings_.slow_share);
  if (rate_ > 0) result_.late.Add(Milliseconds(Clock::now() - due));
  client::CallLoop::Handlers handlers;
  if (call->slow) {
    handlers.read_delay =
        std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double, std::milli>(settings_.read_delay_ms));
  }
  handlers.on_response = [this, call](const v1::GenerateResponse& response, Clock::time_point now) {
    call->Take(response, now);
    call->cancelled = call->cancels && call->tokens >= settings_.cancel_at;
    return !call->cancelled;
  };
  handlers.on_done = [this, caller, call](const client::Error& error, Clock::time_point ended) {
    ++caller->turns;
    End(caller, *call, error, ended);
  };
  loop_.Generate(*caller->connection, MakeRequest(*caller), target_.call_options, std::move(handlers));
}

void LoadRun::End(const std::shared_ptr<Caller>& caller, Call& call, const client::Error& error,
                  Clock::time_point ended) {
  --running_;
  last_end_ = std::max(last_end_, ended);
  Count(call, error);
  // A session whose call went wrong is given up.
  const bool leaves = caller->turns >= settings_.turns || (!error.ok() && !call.cancelled);
  const bool goes = caller->once && (settings_.turns == 0 || leaves);
  const auto next = [this, caller, goes] {
    if (!goes) Next(caller, Clock::now());
  };
  leaves || goes ? LeaveSession(caller, next) : next();
}

void LoadRun::LeaveSession(const std::shared_ptr<Caller>& caller, std::function<void()> then) {
  if (caller->session.empty()) return then();
  loop_.DeleteSession(*caller->connection, std::exchange(caller->session, ""), target_.call_options,
                      [this, then = std::move(then)](const client::Error& error) {
                        if (!error.ok()) ++result_.errors[absl::StrCat("DeleteSession: ", Kind(error))];
                        then();
                      });
}

void LoadRun::Count(Call& call, const client::Error& error) {
  ++result_.sent;
  result_.tokens += call.tokens;
  result_.messages += call.messages;
  if (call.cancelled && (error.ok() || error.code == absl::StatusCode::kCancelled)) {
    ++result_.cancelled;
  } else if (error.ok() && call.tokens == settings_.output_tokens && call.completion_tokens == call.tokens) {
    ++result_.ok;
    result_.slow += call.slow ? 1 : 0;
    if (!call.slow) CountTimes(call);
  } else if (call.slow && error.reason == kSlowConsumer) {
    ++result_.cut;
  } else if (error.ok()) {
    ++result_.errors[absl::StrCat("OK with ", call.tokens, " of ", settings_.output_tokens, " tokens")];
  } else {
    ++result_.errors[Kind(error)];
  }
}

void LoadRun::CountTimes(Call& call) {
  result_.ttft.Add(Milliseconds(call.first - call.due));
  result_.e2e.Add(Milliseconds(call.last - call.due));
  if (call.tokens > 1) result_.tpot.Add(call.tpot());
  result_.itl.Add(call.itl);
  result_.message_gap.Add(call.message_gap);
  if (call.Meets(settings_.objective)) ++result_.good;
}

v1::GenerateRequest LoadRun::MakeRequest(const Caller& caller) {
  v1::GenerateRequest request;
  request.set_session_id(caller.session);
  if (!settings_.prompt.empty()) {
    request.set_text(settings_.prompt);
  } else {
    auto& ids = *request.mutable_tokens()->mutable_ids();
    ids.Add(prefix_.begin(), prefix_.end());
    std::uniform_int_distribution<std::int32_t> id(target_.vocab_size / 4, target_.vocab_size * 3 / 4);
    const auto& eos = target_.eos_token_ids;
    while (ids.size() < settings_.prompt_tokens) {
      const std::int32_t token = id(random_);
      if (std::find(eos.begin(), eos.end(), token) == eos.end()) ids.Add(token);
    }
  }
  request.mutable_sampling()->set_temperature(0);
  request.mutable_stopping()->set_max_tokens(settings_.output_tokens);
  request.mutable_stopping()->set_ignore_eos(true);
  request.mutable_output()->set_text(false);
  return request;
}

}  // namespace megakernel::cli
