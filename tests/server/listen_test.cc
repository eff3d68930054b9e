// Where a server may listen: who can reach which address, and that unencrypted ones are refused unless asked for.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "server/listen_address.h"
#include "server/listen_check.h"
#include "tests/server/test_server.h"

namespace megakernel::testing {
namespace {

TEST(ListenAddress, Spellings) {
  EXPECT_EQ(ParseListenAddress("127.0.0.1:0")->Text(7), "127.0.0.1:7");
  EXPECT_EQ(ParseListenAddress("[::1]:65535")->host, "::1");
  EXPECT_EQ(ParseListenAddress("[::1]:65535")->port, 65535);
  EXPECT_EQ(ParseListenAddress("[::1]:0")->Text(8), "[::1]:8");
  EXPECT_EQ(ParseListenAddress("unix:/run/m.sock")->unix_path, "/run/m.sock");
  EXPECT_EQ(ParseListenAddress("unix:/run/m.sock")->Text(1), "unix:/run/m.sock");
  EXPECT_TRUE(ParseListenAddress("unix:" + std::string(107, 'x')).ok());
  for (const std::string bad :
       {"", ":", ":50051", "localhost", "localhost:", "localhost:x", "localhost:-1", "localhost:65536", "localhost:1 ",
        "::1:50051", "[::1]", "[]:1", "[localhost]:1", "ipv4:127.0.0.1:1", "dns:///localhost:1", "127.0.0.1%2e:1",
        "[fe80::1%25lo]:1", "a b:1", "unix:"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseListenAddress(bad).status())) << bad;
  }
  EXPECT_TRUE(absl::IsInvalidArgument(ParseListenAddress("unix:" + std::string(108, 'x')).status()));
}

TEST(ListenCheck, WhoCanReachIt) {
  for (const char* local : {"127.0.0.1:1", "127.1.2.3:1", "127.1:1", "localhost:1", "[::1]:1", "[::ffff:127.0.0.1]:1",
                            "unix:/tmp/x.sock", "2130706433:1"}) {
    const auto only = IsLocalOnly(local);
    ASSERT_TRUE(only.ok()) << local << ": " << only.status().message();
    EXPECT_TRUE(*only) << local;
  }
  for (const char* reachable : {"0.0.0.0:1", "0:1", "[::]:1", "[::ffff:0.0.0.0]:1", "[::ffff:10.0.0.1]:1", "10.0.0.1:1",
                                "128.0.0.1:1", "[2001:db8::1]:1", "[fe80::1]:1", "[::2]:1"}) {
    const auto only = IsLocalOnly(reachable);
    ASSERT_TRUE(only.ok()) << reachable << ": " << only.status().message();
    EXPECT_FALSE(*only) << reachable;
  }
  const auto unknown = IsLocalOnly("no.such.host.invalid:1");
  EXPECT_TRUE(absl::IsUnavailable(unknown.status()));
  EXPECT_NE(unknown.status().message().find("no.such.host.invalid"), std::string::npos);
}

TEST(ListenCheck, UnencryptedForOthersOnlyWhenAskedFor) {
  EXPECT_TRUE(CheckListen("127.0.0.1:1", false, false).ok());
  EXPECT_TRUE(CheckListen("0.0.0.0:1", true, false).ok());
  EXPECT_TRUE(CheckListen("0.0.0.0:1", false, true).ok());
  const absl::Status refused = CheckListen("[::]:50051", false, false);
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  for (const char* named : {"[::]:50051", "--tls-cert", "--insecure-listen"}) {
    EXPECT_NE(refused.message().find(named), std::string::npos) << refused.message();
  }
}

TEST(ListenCheck, ServerRefusesByItself) {
  TestServer first;
  SteadyClock clock;
  ServerSettings settings;
  settings.listen = "0.0.0.0:0";
  EXPECT_EQ(Server::Start(settings, first.engine(), clock).status().code(), absl::StatusCode::kFailedPrecondition);
  settings.insecure_listen = true;
  EXPECT_TRUE(Server::Start(settings, first.engine(), clock).ok());
}

// One call through the address that the server says it has.
void ExpectServes(Server& server) {
  auto stub = v1::InferenceService::NewStub(grpc::CreateChannel(server.address(), grpc::InsecureChannelCredentials()));
  const Generated result = Generate(*stub, TokensRequest({10, 11}, 3));
  EXPECT_TRUE(result.status.ok()) << server.address() << ": " << result.status.error_message();
  EXPECT_EQ(result.tokens.size(), 3u);
}

TEST(ListenCheck, ServesOnEachKindOfAddress) {
  TestServer first;
  SteadyClock clock;
  const std::string path = ::testing::TempDir() + "/listen_test_" + std::to_string(getpid()) + ".sock";
  for (const std::string& address : {std::string("localhost:0"), std::string("[::1]:0"), "unix:" + path}) {
    SCOPED_TRACE(address);
    ServerSettings settings;
    settings.listen = address;
    auto server = Server::Start(settings, first.engine(), clock);
    if (!server.ok() && address.starts_with("[")) {
      std::fprintf(stderr, "not tried: this machine has no IPv6: %s\n", server.status().ToString().c_str());
      continue;
    }
    ASSERT_TRUE(server.ok()) << server.status().message();
    ExpectServes(**server);
  }
  EXPECT_FALSE(std::filesystem::exists(path));  // the server takes its socket away
}

TEST(ListenCheck, SocketThatCannotBeMadeSaysWhy) {
  TestServer first;
  SteadyClock clock;
  ServerSettings settings;
  settings.listen = "unix:/nonexistent/folder/m.sock";
  const auto server = Server::Start(settings, first.engine(), clock);
  EXPECT_TRUE(absl::IsUnavailable(server.status()));
  EXPECT_NE(server.status().message().find("No such file or directory"), std::string::npos)
      << server.status().message();
}

}  // namespace
}  // namespace megakernel::testing
