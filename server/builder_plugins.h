// Which of the services that gRPC's libraries add to servers a server gets.
#pragma once

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/impl/server_builder_option.h>

#include <memory>
#include <vector>

namespace megakernel {

// Reflection's library, where it is linked whole, and channelz', once it was asked for, add themselves to every server
// of the process. This keeps those that are wanted, for one server.
class BuilderPlugins final : public grpc::ServerBuilderOption {
 public:
  BuilderPlugins(bool reflection, bool channelz) : reflection_(reflection), channelz_(channelz) {}
  void UpdateArguments(grpc::ChannelArguments*) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>* plugins) override {
    auto reflection = std::make_unique<grpc::reflection::ProtoServerReflectionPlugin>();
    std::erase_if(*plugins, [&](const auto& plugin) {
      return plugin->name() == reflection->name() || (!channelz_ && plugin->name() == "channelz_service");
    });
    if (reflection_) plugins->push_back(std::move(reflection));
  }

 private:
  const bool reflection_;
  const bool channelz_;
};

}  // namespace megakernel
