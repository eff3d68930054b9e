// A server with a race on purpose: what its calls do at their end, on the loop's thread, and the main thread both count
// without a lock. Run by seeded_race_test.py under the thread sanitizer, which must say so.
#include <cstdint>
#include <cstdio>

#include "tests/server/test_server.h"

int main() {
  using namespace megakernel::testing;
  std::int64_t ended = 0;
  TestServerOptions options;
  options.settings.log = [&ended](const megakernel::RequestRecord&) { ++ended; };
  TestServer server(options);
  for (int i = 0; i < 100; ++i) {
    Generate(server.inference(), TokensRequest({10, 11}, 3));
    ++ended;
  }
  std::printf("no race was noticed in %lld steps\n", static_cast<long long>(ended));
  return 0;
}
