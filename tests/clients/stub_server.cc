#include "tests/clients/stub_server.h"

#include <grpcpp/ext/health_check_service_server_builder_option.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <map>
#include <set>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "megakernel/v1/inference_service.grpc.pb.h"
#include "megakernel/v1/session_service.grpc.pb.h"

namespace megakernel::tests {
namespace {

constexpr int kDefaultTokens = 8;
constexpr int kModelContext = 1000;

grpc::Status Refuse(grpc::StatusCode code, const std::string& reason, const std::string& message,
                    const std::string& field = "", int retry_ms = 0) {
  google::rpc::Status details;
  details.set_code(code);
  google::rpc::ErrorInfo info;
  info.set_reason(reason);
  info.set_domain("megakernel");
  details.add_details()->PackFrom(info);
  if (!field.empty()) {
    google::rpc::BadRequest bad_request;
    bad_request.add_field_violations()->set_field(field);
    details.add_details()->PackFrom(bad_request);
  }
  if (retry_ms > 0) {
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_nanos(retry_ms * 1000000);
    details.add_details()->PackFrom(retry);
  }
  return grpc::Status(code, message, details.SerializeAsString());
}

// Sessions hold nothing but their length.
class Sessions {
 public:
  std::string Create(int length = 0) {
    absl::MutexLock lock(&mutex_);
    const std::string id = absl::StrCat("session-", ++last_);
    lengths_[id] = length;
    return id;
  }
  grpc::Status Get(const std::string& id, int* length) const {
    absl::MutexLock lock(&mutex_);
    const auto found = lengths_.find(id);
    if (found != lengths_.end()) {
      *length = found->second;
      return grpc::Status::OK;
    }
    const bool expired = expired_.count(id) > 0;
    return Refuse(grpc::StatusCode::NOT_FOUND, expired ? "SESSION_EXPIRED" : "SESSION_NOT_FOUND",
                  absl::StrCat("session ", id, expired ? " has expired" : " does not exist"));
  }
  void Set(const std::string& id, int length) {
    absl::MutexLock lock(&mutex_);
    lengths_[id] = length;
  }
  void Erase(const std::string& id) {
    absl::MutexLock lock(&mutex_);
    lengths_.erase(id);
  }
  void ExpireAll() {
    absl::MutexLock lock(&mutex_);
    for (const auto& [id, length] : lengths_) expired_.insert(id);
    lengths_.clear();
  }
  std::map<std::string, int> All() const {
    absl::MutexLock lock(&mutex_);
    return lengths_;
  }

 private:
  mutable absl::Mutex mutex_;
  int last_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::string, int> lengths_ ABSL_GUARDED_BY(mutex_);
  std::set<std::string> expired_ ABSL_GUARDED_BY(mutex_);
};

// Counts a call while it runs.
class Running {
 public:
  explicit Running(std::atomic<int>* count) : count_(count) { ++*count_; }
  ~Running() { --*count_; }

 private:
  std::atomic<int>* const count_;
};

class Inference final : public v1::InferenceService::Service {
 public:
  explicit Inference(Sessions* sessions) : sessions_(sessions) {}
  int num_running() const { return running_; }

  grpc::Status Generate(grpc::ServerContext* context, const v1::GenerateRequest* request,
                        grpc::ServerWriter<v1::GenerateResponse>* writer) override {
    const Running running(&running_);
    int length = 0;
    if (!request->session_id().empty()) {
      const grpc::Status status = sessions_->Get(request->session_id(), &length);
      if (!status.ok()) return status;
      if (request->has_expected_length() && request->expected_length() != length) {
        return Refuse(grpc::StatusCode::ABORTED, "LENGTH_MISMATCH", "the session has another length");
      }
    }
    std::string text = request->text();
    int prompt_tokens = static_cast<int>(text.size());
    for (const v1::ChatMessage& message : request->chat().messages()) {
      text = message.content();
      prompt_tokens += static_cast<int>(text.size());
    }
    if (text == "busy") return Refuse(grpc::StatusCode::RESOURCE_EXHAUSTED, "QUEUE_FULL", "256 requests wait", "", 250);
    if (text == "plain") return grpc::Status(grpc::StatusCode::INTERNAL, "something broke");
    if (text == "bad") {
      return Refuse(grpc::StatusCode::INVALID_ARGUMENT, "INVALID_FIELD", "top_p is 2, at most 1", "sampling.top_p");
    }
    v1::GenerateResponse response;
    response.mutable_started()->set_prompt_tokens(prompt_tokens);
    writer->Write(response);
    const int max_tokens = request->stopping().has_max_tokens() ? request->stopping().max_tokens() : kDefaultTokens;
    length += prompt_tokens;
    for (int i = 0; i < max_tokens; ++i) {
      response.mutable_delta()->Clear();
      response.mutable_delta()->add_token_ids(i);
      response.mutable_delta()->set_text(std::string(1, static_cast<char>('a' + i % 26)));
      writer->Write(response);
      ++length;
      if (!request->session_id().empty()) sessions_->Set(request->session_id(), length);
      if (text == "cut" && i == 1) return grpc::Status(grpc::StatusCode::UNAVAILABLE, "going down");
      if (text == "slow") {
        while (!context->IsCancelled()) absl::SleepFor(absl::Milliseconds(1));
        return grpc::Status::CANCELLED;
      }
    }
    response.mutable_finished()->set_reason(v1::FINISH_REASON_LENGTH);
    response.mutable_finished()->mutable_usage()->set_completion_tokens(max_tokens);
    response.mutable_finished()->set_session_length(length);
    writer->Write(response);
    return grpc::Status::OK;
  }

  // `open` and `append` as documented; `decode` gives one token; `roll_back` beyond the length is an error.
  grpc::Status Decode(grpc::ServerContext* context,
                      grpc::ServerReaderWriter<v1::DecodeResponse, v1::DecodeRequest>* stream) override {
    const Running running(&running_);
    v1::DecodeRequest request;
    int length = 0;
    while (stream->Read(&request)) {
      v1::DecodeResponse response;
      response.set_operation_id(request.operation_id());
      if (request.has_open()) {
        if (!request.open().session_id().empty()) {
          const grpc::Status status = sessions_->Get(request.open().session_id(), &length);
          if (!status.ok()) return status;
        }
        response.mutable_opened()->set_length(length);
      } else if (request.has_append()) {
        length += request.append().tokens().ids_size();
        response.mutable_appended()->set_length(length);
      } else if (request.has_decode()) {
        response.mutable_delta()->add_token_ids(++length);
        stream->Write(response);
        response.mutable_finished()->set_session_length(length);
      } else if (request.has_roll_back() && request.roll_back().length() > length) {
        v1::OperationError* error = response.mutable_error();
        error->set_code(grpc::StatusCode::INVALID_ARGUMENT);
        error->set_reason("INVALID_FIELD");
        error->set_field("roll_back.length");
        error->set_length(length);
      } else {
        if (request.has_roll_back()) length = request.roll_back().length();
        response.mutable_rolled_back()->set_length(length);
      }
      stream->Write(response);
    }
    return context->IsCancelled() ? grpc::Status::CANCELLED : grpc::Status::OK;
  }

  grpc::Status Tokenize(grpc::ServerContext*, const v1::TokenizeRequest* request,
                        v1::TokenizeResponse* response) override {
    for (const char c : request->text()) response->add_token_ids(static_cast<unsigned char>(c));
    response->set_text(request->text());
    return grpc::Status::OK;
  }
  grpc::Status Detokenize(grpc::ServerContext*, const v1::DetokenizeRequest* request,
                          v1::DetokenizeResponse* response) override {
    for (const int id : request->token_ids()) response->mutable_text()->push_back(static_cast<char>(id));
    return grpc::Status::OK;
  }
  grpc::Status GetModel(grpc::ServerContext*, const v1::GetModelRequest*, v1::GetModelResponse* response) override {
    response->set_name("stub");
    response->set_max_context(kModelContext);
    return grpc::Status::OK;
  }

 private:
  Sessions* const sessions_;
  std::atomic<int> running_{0};
};

class SessionCalls final : public v1::SessionService::Service {
 public:
  explicit SessionCalls(Sessions* sessions) : sessions_(sessions) {}

  grpc::Status CreateSession(grpc::ServerContext*, const v1::CreateSessionRequest*,
                             v1::CreateSessionResponse* response) override {
    return Fill(sessions_->Create(), response->mutable_session());
  }
  grpc::Status GetSession(grpc::ServerContext*, const v1::GetSessionRequest* request,
                          v1::GetSessionResponse* response) override {
    return Fill(request->session_id(), response->mutable_session());
  }
  grpc::Status ListSessions(grpc::ServerContext*, const v1::ListSessionsRequest*,
                            v1::ListSessionsResponse* response) override {
    for (const auto& [id, length] : sessions_->All()) Fill(id, response->add_sessions());
    return grpc::Status::OK;
  }
  grpc::Status ForkSession(grpc::ServerContext*, const v1::ForkSessionRequest* request,
                           v1::ForkSessionResponse* response) override {
    int length = 0;
    const grpc::Status status = sessions_->Get(request->session_id(), &length);
    if (!status.ok()) return status;
    return Fill(sessions_->Create(request->has_length() ? request->length() : length), response->mutable_session());
  }
  grpc::Status RollbackSession(grpc::ServerContext*, const v1::RollbackSessionRequest* request,
                               v1::RollbackSessionResponse* response) override {
    int length = 0;
    const grpc::Status status = sessions_->Get(request->session_id(), &length);
    if (!status.ok()) return status;
    sessions_->Set(request->session_id(), request->length());
    return Fill(request->session_id(), response->mutable_session());
  }
  grpc::Status DeleteSession(grpc::ServerContext*, const v1::DeleteSessionRequest* request,
                             v1::DeleteSessionResponse*) override {
    int length = 0;
    const grpc::Status status = sessions_->Get(request->session_id(), &length);
    sessions_->Erase(request->session_id());
    return status;
  }

 private:
  grpc::Status Fill(const std::string& id, v1::Session* session) {
    int length = 0;
    const grpc::Status status = sessions_->Get(id, &length);
    session->set_session_id(id);
    session->set_length(length);
    return status;
  }

  Sessions* const sessions_;
};

}  // namespace

struct StubServer::State {
  Sessions sessions;
  Inference inference{&sessions};
  SessionCalls session_calls{&sessions};
  std::unique_ptr<grpc::Server> server;
};

StubServer::StubServer() : state_(std::make_unique<State>()) {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&state_->inference);
  builder.RegisterService(&state_->session_calls);
  state_->server = builder.BuildAndStart();
  address_ = absl::StrCat("127.0.0.1:", port);
}

StubServer::~StubServer() {
  Stop();
}

void StubServer::SetServing(bool serving) {
  state_->server->GetHealthCheckService()->SetServingStatus(serving);
}

void StubServer::Stop() {
  state_->server->Shutdown(std::chrono::system_clock::now() + std::chrono::milliseconds(10));
}

void StubServer::ExpireSessions() {
  state_->sessions.ExpireAll();
}
int StubServer::num_sessions() const {
  return static_cast<int>(state_->sessions.All().size());
}
int StubServer::num_running() const {
  return state_->inference.num_running();
}

}  // namespace megakernel::tests
