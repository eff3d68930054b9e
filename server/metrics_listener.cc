#include "server/metrics_listener.h"

#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/base/status_macros.h"
#include "server/listen_address.h"
#include "server/metrics_page.h"

namespace megakernel {
namespace {

constexpr int kBacklog = 64;

// A listening socket and the port it got; an errno in `error` otherwise.
int Listen(const addrinfo& info, int& port, int& error) {
  const int socket_fd = socket(info.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (socket_fd < 0) {
    error = errno;
    return -1;
  }
  const int on = 1;
  setsockopt(socket_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_storage bound = {};
  socklen_t size = sizeof bound;
  if (bind(socket_fd, info.ai_addr, info.ai_addrlen) != 0 || listen(socket_fd, kBacklog) != 0 ||
      getsockname(socket_fd, reinterpret_cast<sockaddr*>(&bound), &size) != 0) {
    error = errno;
    close(socket_fd);
    return -1;
  }
  port = ntohs(bound.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6&>(bound).sin6_port
                                           : reinterpret_cast<sockaddr_in&>(bound).sin_port);
  return socket_fd;
}

std::string Response(const std::string& status, const std::string& type, const std::string& body) {
  return absl::StrCat("HTTP/1.1 ", status, "\r\nContent-Type: ", type, "\r\nContent-Length: ", body.size(),
                      "\r\nConnection: close\r\n\r\n", body);
}

std::string Refusal(const std::string& status) {
  return Response(status, "text/plain; charset=utf-8", status + "\n");
}

}  // namespace

absl::StatusOr<std::unique_ptr<MetricsListener>> MetricsListener::Start(const std::string& address,
                                                                        std::function<std::string()> page) {
  MK_ASSIGN_OR_RETURN(const ListenAddress parsed, ParseListenAddress(address));
  if (parsed.is_unix()) return absl::InvalidArgumentError(absl::StrCat(address, " is not HOST:PORT"));
  addrinfo hints = {};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int failed = getaddrinfo(parsed.host.c_str(), absl::StrCat(parsed.port).c_str(), &hints, &found);
  if (failed != 0)
    return absl::UnavailableError(absl::StrCat("cannot listen on ", address, ": ", gai_strerror(failed)));
  int listener = -1, port = 0, error = 0;
  for (const addrinfo* info = found; info != nullptr && listener < 0; info = info->ai_next) {
    listener = Listen(*info, port, error);
  }
  freeaddrinfo(found);
  if (listener < 0) {
    return absl::UnavailableError(absl::StrCat("cannot listen on ", address, ": ", std::strerror(error)));
  }
  const int wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake < 0) {
    close(listener);
    return absl::UnavailableError(absl::StrCat("cannot listen on ", address, ": ", std::strerror(errno)));
  }
  return std::unique_ptr<MetricsListener>(new MetricsListener(listener, wake, parsed.Text(port), std::move(page)));
}

MetricsListener::MetricsListener(int listener, int wake, std::string address, std::function<std::string()> page)
    : listener_(listener), wake_(wake), address_(std::move(address)), page_(std::move(page)), thread_([this] {
        Run();
      }) {}

MetricsListener::~MetricsListener() {
  eventfd_write(wake_, 1);
  thread_.join();
  for (const Connection& connection : connections_) close(connection.descriptor);
  close(listener_);
  close(wake_);
}

void MetricsListener::Run() {
  std::vector<pollfd> polled;
  for (;;) {
    const bool room = static_cast<int>(connections_.size()) < kMaxConnections;
    polled = {{wake_, POLLIN, 0}, {listener_, static_cast<short>(room ? POLLIN : 0), 0}};
    absl::Time next = absl::InfiniteFuture();
    for (const Connection& connection : connections_) {
      polled.push_back({connection.descriptor, static_cast<short>(connection.answer.empty() ? POLLIN : POLLOUT), 0});
      next = std::min(next, connection.deadline);
    }
    const absl::Duration left = std::max(absl::ZeroDuration(), next - clock_.Now());
    const int timeout = next == absl::InfiniteFuture() ? -1 : static_cast<int>(absl::ToInt64Milliseconds(left)) + 1;
    poll(polled.data(), polled.size(), timeout);
    if (polled[0].revents != 0) return;
    const absl::Time now = clock_.Now();
    std::size_t kept = 0;
    for (std::size_t i = 0; i < connections_.size(); ++i) {
      Connection& connection = connections_[i];
      const bool over = connection.deadline <= now || (polled[i + 2].revents != 0 && !Advance(connection));
      if (over) {
        close(connection.descriptor);
      } else if (kept++ != i) {
        connections_[kept - 1] = std::move(connection);
      }
    }
    connections_.resize(kept);
    if (polled[1].revents != 0) Accept();
  }
}

void MetricsListener::Accept() {
  while (static_cast<int>(connections_.size()) < kMaxConnections) {
    const int descriptor = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (descriptor < 0) return;  // none left, or one that has gone again
    connections_.push_back(
        {.descriptor = descriptor, .deadline = clock_.Now() + kConnectionTime, .request = {}, .answer = {}, .sent = 0});
  }
}

bool MetricsListener::Advance(Connection& connection) {
  if (connection.answer.empty()) {
    char bytes[2048];
    const ssize_t got = recv(connection.descriptor, bytes, sizeof bytes, 0);
    if (got <= 0) return got < 0 && (errno == EAGAIN || errno == EINTR);
    connection.request.append(bytes, static_cast<std::size_t>(got));
    if (connection.request.find("\r\n\r\n") != std::string::npos) {
      connection.answer = Answer(connection.request);
    } else if (connection.request.size() > kMaxRequestBytes) {
      connection.answer = Refusal("431 Request Header Fields Too Large");
    } else {
      return true;
    }
  }
  const std::size_t left = connection.answer.size() - connection.sent;
  const ssize_t sent = send(connection.descriptor, connection.answer.data() + connection.sent, left, MSG_NOSIGNAL);
  if (sent < 0) return errno == EAGAIN || errno == EINTR;
  connection.sent += static_cast<std::size_t>(sent);
  if (connection.sent < connection.answer.size()) return true;
  shutdown(connection.descriptor, SHUT_WR);
  return false;
}

std::string MetricsListener::Answer(const std::string& request) const {
  const std::string line = request.substr(0, request.find("\r\n"));
  const std::vector<std::string> words = absl::StrSplit(line, ' ');
  if (words.size() != 3 || words[2].rfind("HTTP/1.", 0) != 0) return Refusal("400 Bad Request");
  if (words[0] != "GET") return Refusal("405 Method Not Allowed");
  if (words[1].substr(0, words[1].find('?')) != "/metrics") return Refusal("404 Not Found");
  return Response("200 OK", kMetricsContentType, page_());
}

}  // namespace megakernel
