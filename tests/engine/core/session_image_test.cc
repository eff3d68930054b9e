// Sessions saved and restored: they go on as if nothing had happened, and whatever is damaged or foreign is refused.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "engine/core/error.h"
#include "engine/core/session_file.h"
#include "tests/engine/core/engine_fixture.h"

namespace megakernel::testing {
namespace {

const std::vector<TokenId> kPrompt = Range(10, 11);

class SessionImageTest : public ::testing::Test {
 protected:
  SessionImageTest() {
    std::string name = ::testing::TempDir() + "/session_XXXXXX";
    folder_ = mkdtemp(name.data());
  }
  ~SessionImageTest() override { std::filesystem::remove_all(folder_); }

  std::string Path() const { return folder_ + "/a.session"; }
  std::string ReadBytes() const {
    std::ifstream file(Path(), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void WriteBytes(const std::string& bytes) const {
    std::ofstream(Path(), std::ios::binary | std::ios::trunc) << bytes;
  }
  std::size_t NumFiles() const {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(folder_), {}));
  }

  std::string folder_;
};

std::string MakeSession(TestEngine& engine, int output) {
  const std::string id = engine.Create()->id;
  auto reader = engine.Read(TestEngine::Request(kPrompt, output, id));
  EXPECT_TRUE(reader->WaitDone());
  return id;
}

void ExpectGoesOn(TestEngine& engine, const std::string& id, int before, int cached) {
  auto reader = engine.Read(TestEngine::Request({}, 10, id));
  ASSERT_TRUE(reader->WaitDone());
  const std::vector<TokenId> all = engine.Expected(kPrompt, before + 10);
  EXPECT_EQ(reader->tokens(), std::vector<TokenId>(all.begin() + before, all.end()));
  EXPECT_EQ(reader->finished().usage.cached_tokens, cached);
}

TEST_F(SessionImageTest, GoesOnInAnotherEngineWithoutComputingAgain) {
  for (const int page_tokens : {4, 64}) {
    EngineSetup setup;
    setup.fake.page_tokens = page_tokens;
    TestEngine saving(setup);
    const std::string id = MakeSession(saving, 20);
    ASSERT_TRUE(WriteSessionFile(Path(), *saving.Export(id)).ok());
    ExpectGoesOn(saving, id, 20, 30);  // saving changed nothing

    TestEngine restoring(setup);
    auto image = ReadSessionFile(Path(), restoring->image_format(kDefaultTenant));
    ASSERT_TRUE(image.ok()) << image.status();
    const auto restored = restoring.Import(*std::move(image));
    ASSERT_TRUE(restored.ok()) << restored.status();
    EXPECT_EQ(restored->length, 31);
    EXPECT_EQ(restored->kv_length, 30);
    ExpectGoesOn(restoring, restored->id, 20, 30);
    EXPECT_TRUE(restoring.Delete(restored->id).ok());
    EXPECT_EQ(restoring.Idle().pages_used, 0);
  }
}

TEST_F(SessionImageTest, SharesWhatIsThereAndGivesNothingToOthers) {
  TestEngine engine;
  const std::string id = MakeSession(engine, 20);
  auto image = engine.Export(id);
  ASSERT_TRUE(image.ok()) << image.status();
  const std::int64_t before = engine->Stats().pages_used;
  const auto restored = engine.Import(*image);
  ASSERT_TRUE(restored.ok()) << restored.status();
  EXPECT_EQ(engine.Idle().pages_used, before + 1);  // 30 positions: 7 full pages are shared, the last one is its own
  ExpectGoesOn(engine, restored->id, 20, 30);

  TestEngine fresh;
  std::memset(image->pages.data(), 0x55, image->pages.size());
  const auto forged = fresh.Import(*image);
  ASSERT_TRUE(forged.ok()) << forged.status();
  auto reader = fresh.Read(TestEngine::Request(kPrompt, 20));
  ASSERT_TRUE(reader->WaitDone());
  EXPECT_EQ(reader->tokens(), fresh.Expected(kPrompt, 20));
  EXPECT_EQ(reader->finished().usage.cached_tokens, 0);
}

TEST_F(SessionImageTest, AnEmptySessionAndOneWithoutKeys) {
  TestEngine engine;
  const std::string empty = engine.Create()->id;
  EXPECT_EQ(engine.Import(*engine.Export(empty))->length, 0);
  SessionImage image = *engine.Export(MakeSession(engine, 5));
  image.kv_length = 0;
  image.pages.clear();
  ASSERT_TRUE(WriteSessionFile(Path(), image).ok());
  TestEngine other;
  const auto restored = other.Import(*ReadSessionFile(Path(), other->image_format(kDefaultTenant)));
  ASSERT_TRUE(restored.ok()) << restored.status();
  ExpectGoesOn(other, restored->id, 5, 0);
}

TEST_F(SessionImageTest, TheSessionMayBeUsedAndDeletedMeanwhile) {
  EngineSetup setup;
  setup.fake.step_time = absl::Milliseconds(1);
  TestEngine engine(setup);
  const std::string id = MakeSession(engine, 20);
  engine.fake().Stall(true);
  std::optional<absl::StatusOr<SessionImage>> exported;
  std::optional<absl::Status> deleted;
  Mutex mutex;
  engine->ExportSession(kDefaultTenant, id, [&](absl::StatusOr<SessionImage> image) {
    MutexLock lock(&mutex);
    exported = std::move(image);
  });
  auto reader = engine.Read(TestEngine::Request({}, 10, id));
  // The answer comes when the executor has let go of the session's pages, so not while it stands still.
  engine->DeleteSession(kDefaultTenant, id, [&](const absl::StatusOr<SessionInfo>& session) {
    MutexLock lock(&mutex);
    deleted = session.status();
  });
  EXPECT_EQ(ReasonOf(engine.Get(id).status()), ErrorReason::kSessionNotFound);
  engine.fake().Stall(false);
  ASSERT_TRUE(reader->WaitDone());
  EXPECT_EQ(reader->finished().reason, FinishReason::kCancelled);
  EXPECT_EQ(ReasonOf(reader->finished().status), ErrorReason::kSessionDeleted);
  const auto done = [&] { return exported.has_value() && deleted.has_value(); };
  MutexLock lock(&mutex);
  ASSERT_TRUE(mutex.AwaitWithTimeout(done, absl::Seconds(30)));
  EXPECT_TRUE(deleted->ok()) << *deleted;
  ASSERT_TRUE(exported->ok()) << exported->status();
  EXPECT_EQ((*exported)->tokens, Concat(kPrompt, engine.Expected(kPrompt, 20)));
  EXPECT_EQ((*exported)->kv_length, 30);
}

TEST_F(SessionImageTest, WhatCannotBeIsRefused) {
  TestEngine engine;
  const std::string id = MakeSession(engine, 20);
  const SessionImage image = *engine.Export(id);
  const auto reason = [&](auto change, const std::string& tenant = kDefaultTenant) {
    SessionImage changed = image;
    change(changed);
    return ReasonOf(engine.Import(std::move(changed), tenant).status());
  };
  EXPECT_EQ(reason([](SessionImage& i) { i.format.model += "x"; }), ErrorReason::kSessionForeign);
  EXPECT_EQ(reason([](SessionImage& i) { i.format.page_format += "x"; }), ErrorReason::kSessionForeign);
  EXPECT_EQ(reason([](SessionImage& i) { i.format.page_tokens = 8; }), ErrorReason::kSessionForeign);
  EXPECT_EQ(reason([](SessionImage&) {}, "somebody else"), ErrorReason::kSessionForeign);
  EXPECT_EQ(reason([](SessionImage& i) { i.kv_length = 31; }), ErrorReason::kSessionCorrupt);
  EXPECT_EQ(reason([](SessionImage& i) { i.kv_length = -1; }), ErrorReason::kSessionCorrupt);
  EXPECT_EQ(reason([](SessionImage& i) { i.pages.pop_back(); }), ErrorReason::kSessionCorrupt);
  EXPECT_EQ(reason([](SessionImage& i) { i.tokens[3] = -1; }), ErrorReason::kSessionCorrupt);
  EXPECT_EQ(reason([](SessionImage& i) { i.tokens.resize(513); }), ErrorReason::kContextExceeded);
  EXPECT_EQ(ReasonOf(engine.Export("nobody").status()), ErrorReason::kSessionNotFound);
  engine.Idle();
}

TEST_F(SessionImageTest, TakesThePagesOfIdleSessionsOrSaysThatThereAreNone) {
  EngineSetup setup;
  setup.fake.num_pages = 10;
  setup.fake.max_context = 40;
  TestEngine engine(setup);
  const std::string id = MakeSession(engine, 20);
  SessionImage image = *engine.Export(id);
  for (TokenId& token : image.tokens) token = kPrompt[0];  // shares nothing
  const auto restored = engine.Import(image);
  ASSERT_TRUE(restored.ok()) << restored.status();
  EXPECT_EQ(engine.Get(id)->kv_length, 0);
  EXPECT_EQ(engine.Idle().sessions_reclaimed, 1);

  setup.engine.reclaim_idle_sessions = false;
  TestEngine strict(setup);
  MakeSession(strict, 20);
  EXPECT_EQ(ReasonOf(strict.Import(image).status()), ErrorReason::kKvExhausted);
}

TEST_F(SessionImageTest, AnExecutorThatFailsEndsTheExport) {
  TestEngine engine;
  const std::string id = MakeSession(engine, 20);
  engine.fake().Stall(true);
  std::optional<absl::Status> status;
  Mutex mutex;
  engine->ExportSession(kDefaultTenant, id, [&](absl::StatusOr<SessionImage> image) {
    MutexLock lock(&mutex);
    status = image.status();
  });
  engine.fake().Fail(absl::InternalError("the device is gone"));
  const auto done = [&] { return status.has_value(); };
  MutexLock lock(&mutex);
  ASSERT_TRUE(mutex.AwaitWithTimeout(done, absl::Seconds(30)));
  EXPECT_EQ(ReasonOf(*status), ErrorReason::kExecutorFailed);
}

TEST_F(SessionImageTest, EveryTruncationAndEveryFlippedByteIsRefused) {
  TestEngine engine;
  const ImageFormat here = engine->image_format(kDefaultTenant);
  ASSERT_TRUE(WriteSessionFile(Path(), *engine.Export(MakeSession(engine, 9))).ok());
  const std::string good = ReadBytes();
  ASSERT_TRUE(ReadSessionFile(Path(), here).ok());
  const auto refused = [&](const std::string& bytes) {
    WriteBytes(bytes);
    const ErrorReason reason = ReasonOf(ReadSessionFile(Path(), here).status());
    return reason == ErrorReason::kSessionCorrupt || reason == ErrorReason::kSessionForeign;
  };
  for (std::size_t size = 0; size < good.size(); ++size) EXPECT_TRUE(refused(good.substr(0, size))) << size;
  EXPECT_TRUE(refused(good + "x"));
  for (std::size_t at = 0; at < good.size(); ++at) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ (1 << at % 8));
    EXPECT_TRUE(refused(bad)) << at;
  }
  EXPECT_EQ(ReasonOf(ReadSessionFile(folder_ + "/none", here).status()), ErrorReason::kSessionNotFound);
  EXPECT_EQ(ReasonOf(ReadSessionFile(folder_, here).status()), ErrorReason::kSessionCorrupt);
}

// A limit on the size of files stands for a full disk.
TEST_F(SessionImageTest, AFullDiskLeavesTheOldFile) {
  TestEngine engine;
  const SessionImage image = *engine.Export(MakeSession(engine, 9));
  ASSERT_TRUE(WriteSessionFile(Path(), image).ok());
  const std::string before = ReadBytes();
  SessionImage larger = image;
  larger.pages.resize(std::size_t{1} << 20);
  rlimit limit = {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &limit), 0);
  const rlimit small = {.rlim_cur = 65536, .rlim_max = limit.rlim_max};
  signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const absl::Status status = WriteSessionFile(Path(), larger);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReasonOf(status), ErrorReason::kStorageFull);
  EXPECT_NE(std::string(status.message()).find(Path()), std::string::npos) << status;
  EXPECT_EQ(ReadBytes(), before);
  EXPECT_EQ(NumFiles(), 1u);
  EXPECT_EQ(ReasonOf(WriteSessionFile(folder_ + "/none/a", image)), ErrorReason::kStorageFailed);
}

// A process that is killed while it saves, again and again, leaves a whole file: the old one or the new one.
TEST_F(SessionImageTest, KillAtAnyMomentLeavesAWholeFile) {
  TestEngine engine;
  const ImageFormat here = engine->image_format(kDefaultTenant);
  SessionImage image = *engine.Export(MakeSession(engine, 9));
  ASSERT_TRUE(WriteSessionFile(Path(), image).ok());
  std::mt19937 random(1);
  int replaced = 0;
  for (int round = 0; round < 60; ++round) {
    image.tokens[0] = round;
    const pid_t child = fork();
    if (child == 0) {
      while (WriteSessionFile(Path(), image).ok()) {
      }
      _exit(1);
    }
    usleep(random() % 3000);
    ASSERT_EQ(kill(child, SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the child ended by itself";
    const auto read = ReadSessionFile(Path(), here);
    ASSERT_TRUE(read.ok()) << read.status();
    replaced += read->tokens[0] == round;
  }
  EXPECT_GT(replaced, 0) << "no save was ever finished";
}

}  // namespace
}  // namespace megakernel::testing
