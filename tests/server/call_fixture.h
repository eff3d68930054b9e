// What the calls' state machines need, without gRPC: engine, fake executor, byte model, threads.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <utility>

#include "engine/base/check.h"
#include "engine/core/engine.h"
#include "engine/executor/fake_executor.h"
#include "server/byte_model.h"
#include "server/call_context.h"
#include "tests/server/fake_transport.h"

namespace megakernel::testing {

class CallFixture : public ::testing::Test {
 protected:
  explicit CallFixture(EngineOptions options = {}, absl::Duration step = absl::Microseconds(100))
      : model_(NewByteModel(4096)), tasks_(1) {
    fake_.vocab = kByteModelVocab;
    fake_.first_token = kByteModelFirstWord;
    fake_.step_time = step;
    auto engine = Engine::Create(options, model_.get(), std::make_unique<FakeExecutor>(fake_), &clock_);
    MK_CHECK(engine.ok());
    engine_ = *std::move(engine);
    context_.reset(new CallContext{.engine = *engine_,
                                   .clock = clock_,
                                   .encoder = PromptEncoder(*model_),
                                   .tasks = tasks_,
                                   .pump = pump_,
                                   .live_calls = live_calls_,
                                   .write_latency = write_latency_,
                                   .instance_id = "test"});
  }
  // The engine first: what it ends must still find the rest.
  ~CallFixture() override { engine_->Shutdown(absl::ZeroDuration()); }

  SteadyClock clock_;
  FakeOptions fake_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Engine> engine_;
  WriteLatency write_latency_;
  LiveCalls live_calls_;
  TaskPool tasks_;
  Loop pump_;
  std::unique_ptr<CallContext> context_;
};

}  // namespace megakernel::testing
