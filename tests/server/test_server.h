// A real gRPC server in this process, on a free port, over the fake executor and the byte model.
#pragma once

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/base/clock.h"
#include "engine/core/engine.h"
#include "engine/executor/fake_executor.h"
#include "megakernel/v1/inference_service.grpc.pb.h"
#include "megakernel/v1/session_service.grpc.pb.h"
#include "server/server.h"

namespace megakernel::testing {

// The fake with the byte model's vocabulary.
FakeOptions ByteFake();

struct TestServerOptions {
  FakeOptions fake = ByteFake();
  EngineOptions engine;
  ServerSettings settings;  // address and limits are set by the test server
  Clock* clock = nullptr;   // of engine and server, outlives them; null: a SteadyClock
};

class TestServer {
 public:
  explicit TestServer(TestServerOptions options = {});
  ~TestServer();

  // The fake's options, for the expected output.
  const FakeOptions& fake_options() const { return options_.fake; }
  FakeExecutor& fake() { return *fake_; }
  Engine& engine() { return *engine_; }
  Server& server() { return *server_; }
  const Model& model() { return *model_; }

  // A connection of its own each time.
  std::shared_ptr<grpc::Channel> NewChannel() const;
  v1::InferenceService::Stub& inference() { return *inference_; }
  v1::SessionService::Stub& sessions() { return *sessions_; }

  // Waits until nothing runs; pages of sessions that are kept stay in use.
  EngineStats Idle();

 private:
  TestServerOptions options_;
  SteadyClock steady_clock_;
  Clock& clock_;
  std::unique_ptr<Model> model_;
  FakeExecutor* fake_ = nullptr;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::InferenceService::Stub> inference_;
  std::unique_ptr<v1::SessionService::Stub> sessions_;
};

// An error with its google.rpc details taken apart.
struct Failure {
  int code = 0;
  std::string message;
  std::string reason;
  std::string domain;
  std::string field;  // of the first violation
  std::optional<std::int64_t> retry_ms;
  std::string pushback;  // the trailer, empty when absent
};
Failure Explain(const grpc::Status& status, const grpc::ClientContext& context);

// A Generate call to its end.
struct Generated {
  grpc::Status status;
  Failure failure;
  std::vector<v1::GenerateResponse> responses;
  v1::GenerationStarted started;
  std::vector<TokenId> tokens;  // of sequence 0
  std::string text;             // of sequence 0
  std::vector<v1::GenerationFinished> finished;
};
Generated Generate(v1::InferenceService::Stub& stub, const v1::GenerateRequest& request,
                   absl::Duration timeout = absl::Seconds(100));

// Greedy requests. No tokens: the session goes on where it ended. max_tokens 0: as many as fit.
v1::GenerateRequest TokensRequest(const std::vector<TokenId>& tokens, int max_tokens, const std::string& session = "");
v1::GenerateRequest TextRequest(const std::string& text, int max_tokens, const std::string& session = "");

// Sessions; failing calls fail the test.
std::string CreateSession(TestServer& server);
v1::GetSessionResponse GetSession(TestServer& server, const std::string& id, bool tokens = false);

}  // namespace megakernel::testing
