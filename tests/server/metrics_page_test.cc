// The text format, the page of a server, and its HTTP.
#include "server/metrics_page.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "server/metrics_listener.h"
#include "server/metrics_text.h"
#include "server/trace_context.h"
#include "tests/server/test_server.h"

namespace megakernel::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(MetricsTextTest, WritesTheFormat) {
  MetricsText page;
  page.Family("a_total", "counter", "What it is.");
  page.Sample(3, MetricsText::Label("x", "q\"b\\c\nd"));
  page.Family("b_seconds", "histogram", "H.");
  page.Histogram({.bounds = {0.0001, 0.5}, .counts = {2, 3, 1}, .sum = 1.25});
  EXPECT_EQ(page.text(),
            "# HELP a_total What it is.\n# TYPE a_total counter\na_total{x=\"q\\\"b\\\\c\\nd\"} 3\n"
            "# HELP b_seconds H.\n# TYPE b_seconds histogram\nb_seconds_bucket{le=\"0.0001\"} 2\n"
            "b_seconds_bucket{le=\"0.5\"} 5\nb_seconds_bucket{le=\"+Inf\"} 6\nb_seconds_sum 1.25\nb_seconds_count 6\n");
}

TEST(MetricsPageTest, CountsWhatHappened) {
  TestServer server;
  ASSERT_TRUE(Generate(server.inference(), TokensRequest({300, 301}, 5)).status.ok());
  EXPECT_FALSE(Generate(server.inference(), TokensRequest({-1}, 5)).status.ok());
  server.Idle();
  const std::string page = MetricsPage(server.server());
  for (const char* line :
       {"\nmegakernel_ready 1\n", "\nmegakernel_open_calls 0\n", "\nmegakernel_requests_total 1\n",
        "\nmegakernel_prompt_tokens_total 2\n", "\nmegakernel_output_tokens_total 5\n",
        "\nmegakernel_sequences_running 0\n", "\nmegakernel_requests_waiting 0\n",
        "\nmegakernel_kv_pages{state=\"used\"} 0\n", "\nmegakernel_kv_usage_ratio 0\n",
        "\nmegakernel_time_to_first_token_seconds_count 1\n", "\nmegakernel_inter_token_time_seconds_count 4\n",
        "\nmegakernel_inter_token_time_seconds_bucket{le=\"0.0002\"} ",
        "\nmegakernel_sequences_finished_total{reason=\"length\"} 1\n",
        "\nmegakernel_calls_total{method=\"Generate\",code=\"OK\"} 1\n",
        "\nmegakernel_calls_total{method=\"Generate\",code=\"INVALID_ARGUMENT\"} 1\n",
        "\nmegakernel_call_errors_total{reason=\"INVALID_FIELD\"} 1\n",
        "\nmegakernel_call_errors_total{reason=\"EXECUTOR_FAILED\"} 0\n",
        "\nmegakernel_executor_heartbeat_age_seconds 0\n"}) {
    EXPECT_THAT(page, HasSubstr(line));
  }
  EXPECT_THAT(page, ::testing::ContainsRegex("\nprocess_resident_memory_bytes [1-9][0-9]{6,}\n"));
  server.server().Drain();
  EXPECT_THAT(MetricsPage(server.server()), HasSubstr("\nmegakernel_ready 0\n"));
}

TEST(MetricsPageTest, IsThereWhileTheModelIsLoaded) {
  SteadyClock clock;
  const auto server = Server::Listen(ServerSettings(), clock);
  ASSERT_TRUE(server.ok());
  const std::string page = MetricsPage(**server);
  EXPECT_THAT(page, HasSubstr("\nmegakernel_ready 0\n"));
  EXPECT_THAT(page, ::testing::Not(HasSubstr("megakernel_requests_total")));
}

class Http : public ::testing::Test {
 protected:
  Http() {
    auto listener = MetricsListener::Start("127.0.0.1:0", [] { return std::string("the page\n"); });
    EXPECT_TRUE(listener.ok()) << listener.status();
    listener_ = *std::move(listener);
  }
  int Connect() const {
    const std::string& address = listener_->address();
    sockaddr_in to = {};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<std::uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int connection = socket(AF_INET, SOCK_STREAM, 0);
    EXPECT_EQ(connect(connection, reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
    return connection;
  }
  // Sends, reads to the end.
  std::string Ask(const std::string& request) const {
    const int connection = Connect();
    EXPECT_EQ(send(connection, request.data(), request.size(), MSG_NOSIGNAL), static_cast<ssize_t>(request.size()));
    std::string answer;
    char bytes[4096];
    for (ssize_t got; (got = recv(connection, bytes, sizeof bytes, 0)) > 0;) answer.append(bytes, got);
    close(connection);
    return answer;
  }

  std::unique_ptr<MetricsListener> listener_;
};

TEST_F(Http, AnswersOneQuestion) {
  const std::string answer = Ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(answer, HasSubstr("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
  EXPECT_THAT(answer, HasSubstr("\r\nContent-Length: 9\r\n"));
  EXPECT_THAT(answer, ::testing::EndsWith("\r\n\r\nthe page\n"));
  EXPECT_THAT(Ask("GET /metrics?x=1 HTTP/1.0\r\n\r\n"), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(Ask("GET / HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 404"));
  EXPECT_THAT(Ask("POST /metrics HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 405"));
  EXPECT_THAT(Ask("hello\r\n\r\n"), StartsWith("HTTP/1.1 400"));
  EXPECT_THAT(Ask("GET /metrics HTTP/1.1\r\nX: " + std::string(MetricsListener::kMaxRequestBytes, 'x')),
              StartsWith("HTTP/1.1 431"));
}

TEST_F(Http, SilentClientsDoNotHoldTheOthers) {
  std::vector<int> silent;
  for (int i = 0; i < MetricsListener::kMaxConnections - 1; ++i) silent.push_back(Connect());
  const absl::Time start = absl::Now();
  EXPECT_THAT(Ask("GET /metrics HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 200"));
  EXPECT_LT(absl::Now() - start, absl::Seconds(3));
  silent.push_back(Connect());
  // No place is left: the next one is answered once the silent ones have lost theirs.
  EXPECT_THAT(Ask("GET /metrics HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 200"));
  for (const int connection : silent) close(connection);
}

TEST_F(Http, AnAddressInUseIsTold) {
  const auto second = MetricsListener::Start(listener_->address(), [] { return std::string(); });
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("Address already in use"));
  EXPECT_FALSE(MetricsListener::Start("nowhere", [] { return std::string(); }).ok());
}

TEST(TraceContextTest, ReadsWhatIsOneAndNothingElse) {
  const std::string trace = "0af7651916cd43dd8448eb211c80319c", parent = "b7ad6b7169203331";
  const TraceContext context = ParseTraceParent("00-" + trace + "-" + parent + "-01");
  EXPECT_EQ(context.trace_id, trace);
  EXPECT_EQ(context.parent_id, parent);
  EXPECT_TRUE(context.sampled);
  EXPECT_FALSE(ParseTraceParent("00-" + trace + "-" + parent + "-a0").sampled);
  EXPECT_EQ(ParseTraceParent("42-" + trace + "-" + parent + "-01-more").trace_id, trace);
  for (const std::string& bad :
       {std::string(), std::string("00"), "00-" + trace + "-" + parent, "00-" + trace + "-" + parent + "-01-more",
        "ff-" + trace + "-" + parent + "-01", "42-" + trace + "-" + parent + "-01x",
        "00-" + std::string(32, '0') + "-" + parent + "-01", "00-" + trace + "-" + std::string(16, '0') + "-01",
        "00-0AF7651916CD43DD8448EB211C80319C-" + parent + "-01", "00_" + trace + "-" + parent + "-01",
        "00-" + trace + "-" + parent + "-0g", std::string(55, '-')}) {
    EXPECT_EQ(ParseTraceParent(bad).trace_id, "") << bad;
  }
}

}  // namespace
}  // namespace megakernel::testing
