// The gRPC side of Client. Private to clients/cpp.
#pragma once

#include <grpcpp/channel.h>

#include <memory>

#include "clients/cpp/call_scope.h"
#include "clients/cpp/client.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "megakernel/v1/inference_service.grpc.pb.h"
#include "megakernel/v1/session_service.grpc.pb.h"

namespace megakernel::client {

struct Client::Stubs {
  explicit Stubs(const std::shared_ptr<grpc::Channel>& channel)
      : inference(v1::InferenceService::NewStub(channel)),
        sessions(v1::SessionService::NewStub(channel)),
        health(grpc::health::v1::Health::NewStub(channel)) {}

  // One unary call of `stub`.
  template <typename Stub, typename Request, typename Response>
  static Error Call(Stub* stub, grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                    const Request& request, Response* response, const CallOptions& options) {
    CallScope scope(options);
    return FromStatus((stub->*method)(scope.context(), request, response));
  }

  // One unary call whose answer is the result.
  template <typename Response, typename Stub, typename Request>
  static Result<Response> Get(Stub* stub, grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                              const Request& request, const CallOptions& options) {
    Response response;
    Error error = Call(stub, method, request, &response, options);
    if (!error.ok()) return error;
    return response;
  }

  // One unary call whose answer holds a session.
  template <typename Response, typename Stub, typename Request>
  static Result<v1::Session> GetSession(Stub* stub,
                                        grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                                        const Request& request, const CallOptions& options) {
    Response response;
    Error error = Call(stub, method, request, &response, options);
    if (!error.ok()) return error;
    return response.session();
  }

  const std::unique_ptr<v1::InferenceService::Stub> inference;
  const std::unique_ptr<v1::SessionService::Stub> sessions;
  const std::unique_ptr<grpc::health::v1::Health::Stub> health;
};

}  // namespace megakernel::client
