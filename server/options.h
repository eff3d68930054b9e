// Everything that megakernel-server can be told, from flags and from a JSON file.
//
// One table (Options()) says for each option its flag, its place in the JSON file, type, range, default and help. The
// flag parser, the file reader, the --help page and the configuration tests all work from it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "kernels/layout/program.h"

namespace megakernel {

// Plain data, immutable once the server runs. A 0 in a number that may be "auto" means auto.
struct ServerOptions {
  std::string config_file;

  std::string model_path;
  std::string device = "auto";
  std::int64_t threads = 0;
  std::string cpu_isa = "auto";
  std::string precision = "default";
  std::int64_t kv_memory = 0;
  std::int64_t page_tokens = 64;
  std::int64_t persistent_blocks = 0;
  std::int64_t threads_per_block = layout::kThreads;
  std::string kv_layout = "head-major";
  absl::Duration stall_timeout = absl::Milliseconds(1200);

  std::int64_t max_context = 0;
  std::int64_t max_sequences = 64;
  std::int64_t max_rows = 512;
  std::int64_t prompt_rows_busy = 0;
  std::int64_t max_queue = 256;
  std::int64_t max_sessions = 1024;
  absl::Duration session_ttl = absl::Minutes(10);
  std::string session_dir;
  std::int64_t max_saved_sessions = 1000;

  std::string listen = "127.0.0.1:50051";
  bool insecure_listen = false;
  std::string tls_cert;
  std::string tls_key;
  std::string tls_client_ca;
  std::string auth_tokens;
  bool share_across_tenants = false;
  bool reflection = true;
  std::string metrics_listen;
  std::string admin_listen;
  absl::Duration drain_delay = absl::ZeroDuration();
  absl::Duration drain_timeout = absl::Seconds(15);
  std::int64_t stream_buffer = 4096;
  absl::Duration write_timeout = absl::Seconds(30);
  absl::Duration keepalive_time = absl::Minutes(1);
  absl::Duration keepalive_timeout = absl::Seconds(20);
  absl::Duration max_connection_age = absl::ZeroDuration();  // never
  std::int64_t max_request_size = 16 << 20;
  std::string log_level = "info";

  absl::Duration fake_step_time = absl::ZeroDuration();
  std::int64_t fake_stall_after = 0;
};

// How the text of an option becomes its value.
enum class OptionKind {
  kString,    // any text
  kChoice,    // one of `choices`
  kInteger,   // decimal
  kSize,      // bytes: "512MiB", "4GiB", "1048576"
  kDuration,  // "250ms", "10m", "1h30m"
  kBool,      // --name, --no-name, --name=true|false
};

struct Option {
  std::string_view section;  // heading on the help page
  std::string_view flag;     // without the dashes
  std::string_view path;     // in the JSON file, "group.key"; empty: a flag only
  std::string_view value_name;
  OptionKind kind;
  std::variant<std::string ServerOptions::*, std::int64_t ServerOptions::*, absl::Duration ServerOptions::*,
               bool ServerOptions::*>
      target;
  std::string_view help;
  // Integers and sizes: the value itself; durations: milliseconds. Both ends included.
  std::int64_t min = 0;
  std::int64_t max = 0;
  bool may_be_auto = false;          // "auto" is a value, stored as 0
  std::string_view auto_means = {};  // what auto does, for the help page
  std::vector<std::string_view> choices = {};
};

// The table, in the order of the help page.
std::span<const Option> Options();

// Null when there is none.
const Option* FindFlag(std::string_view flag);
const Option* FindPath(std::string_view path);

// Reads `text` as the value of `option`. InvalidArgument says what was wrong and what is allowed; the caller adds where
// the text came from.
absl::Status SetOption(const Option& option, std::string_view text, ServerOptions& options);

// The value as text that SetOption would read.
std::string OptionText(const Option& option, const ServerOptions& options);

// The name in `names` that is closest to `name`; empty when none is close enough to be a typing error.
std::string_view NearestName(std::string_view name, std::span<const std::string_view> names);

// Checks that need more than one option (a model unless the device is fake). The message names the flags.
absl::Status CheckOptions(const ServerOptions& options);

}  // namespace megakernel
