// Sessions saved and restored over gRPC: they go on with equal tokens, names stay in their folder, errors have reasons.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/session_store.h"
#include "tests/server/test_server.h"

namespace megakernel::testing {
namespace {

class SavedSessionTest : public ::testing::Test {
 protected:
  SavedSessionTest() {
    std::string name = ::testing::TempDir() + "/saved_XXXXXX";
    folder_ = mkdtemp(name.data());
  }
  ~SavedSessionTest() override { std::filesystem::remove_all(folder_); }

  TestServerOptions Options(int max_per_tenant = 10) {
    TestServerOptions options;
    auto store = SessionStore::Open(folder_, max_per_tenant);
    EXPECT_TRUE(store.ok()) << store.status();
    options.settings.session_store = *std::move(store);
    return options;
  }
  std::vector<std::string> Files() const {
    std::vector<std::string> files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder_)) {
      if (entry.is_regular_file()) files.push_back(entry.path());
    }
    return files;
  }

  std::string folder_;
};

Failure Save(TestServer& server, const std::string& id, const std::string& name,
             v1::SaveSessionResponse* response = nullptr) {
  grpc::ClientContext context;
  v1::SaveSessionRequest request;
  request.set_session_id(id);
  request.set_name(name);
  v1::SaveSessionResponse own;
  const grpc::Status status = server.sessions().SaveSession(&context, request, response != nullptr ? response : &own);
  return Explain(status, context);
}

Failure Restore(TestServer& server, const std::string& name, std::string* id = nullptr) {
  grpc::ClientContext context;
  v1::RestoreSessionRequest request;
  request.set_name(name);
  v1::RestoreSessionResponse response;
  const grpc::Status status = server.sessions().RestoreSession(&context, request, &response);
  if (id != nullptr) *id = response.session().session_id();
  return Explain(status, context);
}

std::vector<std::string> Names(TestServer& server) {
  grpc::ClientContext context;
  v1::ListSavedSessionsResponse response;
  EXPECT_TRUE(server.sessions().ListSavedSessions(&context, {}, &response).ok());
  std::vector<std::string> names;
  for (const auto& saved : response.saved_sessions()) names.push_back(saved.name());
  return names;
}

Failure Forget(TestServer& server, const std::string& name) {
  grpc::ClientContext context;
  v1::DeleteSavedSessionRequest request;
  request.set_name(name);
  v1::DeleteSavedSessionResponse response;
  const grpc::Status status = server.sessions().DeleteSavedSession(&context, request, &response);
  return Explain(status, context);
}

// A session with some tokens in it.
std::string Filled(TestServer& server, int tokens = 40) {
  const std::string id = CreateSession(server);
  EXPECT_TRUE(Generate(server.inference(), TokensRequest({300, 301, 302}, tokens, id)).status.ok());
  return id;
}

TEST_F(SavedSessionTest, GoesOnInAnotherServerWithEqualTokens) {
  std::vector<TokenId> expected;
  {
    TestServer server(Options());
    const std::string id = Filled(server);
    v1::SaveSessionResponse saved;
    EXPECT_EQ(Save(server, id, "story.1", &saved).code, 0);
    EXPECT_EQ(saved.saved_session().name(), "story.1");
    ASSERT_EQ(Files().size(), 1u);
    EXPECT_EQ(saved.saved_session().size_bytes(), static_cast<int>(std::filesystem::file_size(Files()[0])));
    EXPECT_NEAR(static_cast<double>(saved.saved_session().save_time().seconds()),
                static_cast<double>(absl::ToUnixSeconds(absl::Now())), 60);
    expected = Generate(server.inference(), TokensRequest({}, 20, id)).tokens;
  }
  TestServer server(Options());
  EXPECT_EQ(Names(server), std::vector<std::string>{"story.1"});
  for (int round = 0; round < 2; ++round) {  // the saved one stays
    std::string id;
    EXPECT_EQ(Restore(server, "story.1", &id).code, 0);
    EXPECT_EQ(GetSession(server, id).session().length(), 43);
    EXPECT_EQ(GetSession(server, id).session().kv_length(), 42);
    const Generated generated = Generate(server.inference(), TokensRequest({}, 20, id));
    EXPECT_EQ(generated.tokens, expected);
    ASSERT_EQ(generated.finished.size(), 1u);
    EXPECT_EQ(generated.finished[0].usage().cached_tokens(), 42);  // nothing was computed again
  }
  EXPECT_EQ(Forget(server, "story.1").code, 0);
  EXPECT_EQ(Forget(server, "story.1").reason, "SESSION_NOT_FOUND");
  EXPECT_TRUE(Names(server).empty());
}

TEST_F(SavedSessionTest, ANameReplacesItsOldContent) {
  TestServer server(Options());
  EXPECT_EQ(Save(server, Filled(server, 10), "a").code, 0);
  EXPECT_EQ(Save(server, Filled(server, 30), "a").code, 0);
  std::string id;
  EXPECT_EQ(Restore(server, "a", &id).code, 0);
  EXPECT_EQ(GetSession(server, id).session().length(), 33);
  EXPECT_EQ(Files().size(), 1u);
}

TEST_F(SavedSessionTest, NamesDoNotLeaveTheFolder) {
  TestServer server(Options());
  const std::string id = Filled(server);
  for (const std::string& name :
       {std::string(), std::string("../x"), std::string("/etc/x"), std::string("a/b"), std::string("."),
        std::string(".."), std::string(".hidden"), std::string("a b"), std::string("a\0b", 3), std::string("\xc3\xa4"),
        std::string("a\nb"), std::string(65, 'a')}) {
    for (const Failure& failure : {Save(server, id, name), Restore(server, name), Forget(server, name)}) {
      EXPECT_EQ(failure.code, grpc::INVALID_ARGUMENT) << name;
      EXPECT_EQ(failure.reason, "INVALID_FIELD") << name;
      EXPECT_EQ(failure.field, "name") << name;
    }
  }
  EXPECT_TRUE(Files().empty());
  EXPECT_EQ(Save(server, id, std::string(64, 'a')).code, 0);
}

TEST_F(SavedSessionTest, DamagedForeignAndMissingFilesAreTold) {
  {
    TestServer server(Options());
    EXPECT_EQ(Save(server, Filled(server), "a").code, 0);
    EXPECT_EQ(Restore(server, "b").reason, "SESSION_NOT_FOUND");
    EXPECT_EQ(Save(server, "nobody", "b").reason, "SESSION_NOT_FOUND");
  }
  const std::string file = Files()[0];
  {
    TestServerOptions other = Options();
    other.fake.page_tokens = 32;
    TestServer server(other);
    const Failure foreign = Restore(server, "a");
    EXPECT_EQ(foreign.reason, "SESSION_FOREIGN");
    EXPECT_EQ(foreign.code, grpc::FAILED_PRECONDITION);
  }
  std::fstream(file, std::ios::in | std::ios::out | std::ios::binary).seekp(100).put('\x55');
  TestServer server(Options());
  const Failure corrupt = Restore(server, "a");
  EXPECT_EQ(corrupt.reason, "SESSION_CORRUPT");
  EXPECT_EQ(corrupt.code, grpc::DATA_LOSS);
  EXPECT_EQ(corrupt.message.find(folder_), std::string::npos) << corrupt.message;
  std::filesystem::resize_file(file, 60);
  EXPECT_EQ(Restore(server, "a").reason, "SESSION_CORRUPT");
}

// A limit on the size of files stands for a full disk.
TEST_F(SavedSessionTest, AFullDiskIsToldAndLeavesTheOldOne) {
  TestServer server(Options());
  EXPECT_EQ(Save(server, Filled(server, 10), "a").code, 0);
  rlimit limit = {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &limit), 0);
  const rlimit small = {.rlim_cur = 300, .rlim_max = limit.rlim_max};
  signal(SIGXFSZ, SIG_IGN);
  const std::string id = Filled(server, 200);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const Failure full = Save(server, id, "a");
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  EXPECT_EQ(full.reason, "STORAGE_FULL");
  EXPECT_EQ(full.code, grpc::RESOURCE_EXHAUSTED);
  std::string restored;
  EXPECT_EQ(Restore(server, "a", &restored).code, 0);
  EXPECT_EQ(GetSession(server, restored).session().length(), 13);
  EXPECT_EQ(Files().size(), 1u);
}

TEST_F(SavedSessionTest, LimitsAndServersWithoutAFolder) {
  {
    TestServer server(Options(/*max_per_tenant=*/2));
    const std::string id = Filled(server);
    EXPECT_EQ(Save(server, id, "a").code, 0);
    EXPECT_EQ(Save(server, id, "b").code, 0);
    EXPECT_EQ(Save(server, id, "c").reason, "SESSION_LIMIT");
    EXPECT_EQ(Save(server, id, "b").code, 0);
    EXPECT_EQ(Forget(server, "a").code, 0);
    EXPECT_EQ(Save(server, id, "c").code, 0);
  }
  TestServer server;
  EXPECT_EQ(Save(server, "x", "a").reason, "UNSUPPORTED");
  EXPECT_EQ(Restore(server, "a").code, grpc::UNIMPLEMENTED);
}

TEST_F(SavedSessionTest, ManyAtOnceAreRefusedWhenNoPlaceIsLeft) {
  TestServerOptions options = Options();
  options.engine.stall_timeout = absl::Minutes(5);
  TestServer server(options);
  const std::string id = Filled(server);
  server.fake().Stall(true);
  std::vector<std::thread> clients;
  std::atomic<int> saved{0}, refused{0};
  for (int i = 0; i < 2 * SessionStore::kMaxTransfers; ++i) {
    clients.emplace_back([&, i] {
      const Failure failure = Save(server, id, absl::StrCat("n", i));
      failure.code == 0 ? ++saved : ++refused;
      EXPECT_EQ(failure.reason, failure.code == 0 ? "" : "QUEUE_FULL");
    });
  }
  while (refused < SessionStore::kMaxTransfers) std::this_thread::yield();
  server.fake().Stall(false);
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(saved, SessionStore::kMaxTransfers);
}

TEST_F(SavedSessionTest, TenantsHaveFoldersOfTheirOwn) {
  auto store = *SessionStore::Open(folder_, 10);
  SessionImage image;
  image.format = {.model = "m", .page_format = "f", .tenant = "a", .page_tokens = 4, .page_bytes = 8};
  image.tokens = {1, 2};
  ASSERT_TRUE(store->Save("a", "same", image).ok());
  EXPECT_TRUE(store->Load("a", "same", image.format).ok());
  EXPECT_EQ(store->List("b")->size(), 0u);
  EXPECT_FALSE(store->Load("b", "same", image.format).ok());
  // A file that was moved from tenant to tenant is refused by its content.
  const std::filesystem::path file = Files()[0];
  ASSERT_TRUE(store->Save("b", "other", image).ok());
  for (const std::string& each : Files()) {
    if (each.find("other") != std::string::npos) {
      std::filesystem::copy_file(file, std::filesystem::path(each).parent_path() / "same.mksession");
    }
  }
  ImageFormat of_b = image.format;
  of_b.tenant = "b";
  EXPECT_EQ(ReasonOf(store->Load("b", "same", of_b).status()), ErrorReason::kSessionForeign);
}

TEST_F(SavedSessionTest, OpeningRemovesWhatAKilledSaveLeft) {
  ASSERT_TRUE(std::filesystem::create_directories(folder_ + "/tenant"));
  std::ofstream(folder_ + "/tenant/a.mksession.partial") << "half";
  std::ofstream(folder_ + "/tenant/b.mksession") << "whole";
  ASSERT_TRUE(SessionStore::Open(folder_, 10).ok());
  ASSERT_EQ(Files().size(), 1u);
  EXPECT_NE(Files()[0].find("b.mksession"), std::string::npos);
  EXPECT_FALSE(SessionStore::Open(folder_ + "/tenant/b.mksession", 10).ok());
}

}  // namespace
}  // namespace megakernel::testing
