// The options, with service_options.cc the only place where their names, ranges and help stand: model, executor,
// limits.
#include <iterator>

#include "server/option_rows.h"

namespace megakernel {
namespace {

std::vector<Option> EngineOptionRows() {
  using O = ServerOptions;
  using K = OptionKind;
  return {
      {.section = "Model",
       .flag = "model",
       .path = "model.path",
       .value_name = "PATH",
       .kind = K::kString,
       .target = &O::model_path,
       .help = "The model to serve: a GGUF file, or a directory with safetensors as published. Needed unless --device "
               "is fake."},

      {.section = "Executor",
       .flag = "device",
       .path = "executor.device",
       .value_name = "NAME",
       .kind = K::kChoice,
       .target = &O::device,
       .help =
           "What runs the model. auto takes the GPU when this build and this machine can use one, else the CPU, and "
           "logs its choice and the reason. A device that is named is used or is an error, never replaced. fake "
           "runs no model: it makes up tokens, to try clients and to measure the server itself.",
       .choices = {"auto", "cpu", "cuda", "fake"}},
      {.section = "Executor",
       .flag = "threads",
       .path = "executor.threads",
       .value_name = "N",
       .kind = K::kInteger,
       .target = &O::threads,
       .help = "Threads that compute on the CPU.",
       .min = 1,
       .max = 1024,
       .may_be_auto = true,
       .auto_means = "what the CPU affinity and the cgroup quota allow"},
      {.section = "Executor",
       .flag = "cpu-isa",
       .path = "executor.cpu_isa",
       .value_name = "NAME",
       .kind = K::kChoice,
       .target = &O::cpu_isa,
       .help = "Instruction set of the CPU executor. One that the CPU lacks is an error. All give the same tokens.",
       .choices = {"auto", "avx512", "avx2", "plain"}},
      {.section = "Executor",
       .flag = "precision",
       .path = "executor.precision",
       .value_name = "NAME",
       .kind = K::kChoice,
       .target = &O::precision,
       .help = "Arithmetic of the CPU executor. fp32 computes with dequantised weights in single precision: the slow "
               "reference.",
       .choices = {"default", "fp32"}},
      {.section = "Executor",
       .flag = "kv-memory",
       .path = "executor.kv_memory",
       .value_name = "SIZE",
       .kind = K::kSize,
       .target = &O::kv_memory,
       .help = "Memory for keys and values (512MiB, 4GiB). How many tokens fit is logged at start.",
       .min = 1 << 16,
       .max = std::int64_t{1} << 46,
       .may_be_auto = true,
       .auto_means =
           "half of the memory that is free under the cgroup limit, at most what max-sequences of max-context "
           "tokens can use"},
      {.section = "Executor",
       .flag = "page-tokens",
       .path = "executor.page_tokens",
       .value_name = "N",
       .kind = K::kInteger,
       .target = &O::page_tokens,
       .help = "Tokens that share one page of keys and values; prefixes are shared by whole pages. On a GPU a multiple "
               "of 64.",
       .min = 1,
       .max = 256},
      {.section = "Executor",
       .flag = "persistent-blocks",
       .path = "executor.persistent_blocks",
       .value_name = "N",
       .kind = K::kInteger,
       .target = &O::persistent_blocks,
       .help = "Blocks of the resident GPU kernel; every number that fits gives the same tokens.",
       .min = 1,
       .max = 1024,
       .may_be_auto = true,
       .auto_means = "one per multiprocessor, or as many as shared memory allows"},
      {.section = "Executor",
       .flag = "threads-per-block",
       .path = "executor.threads_per_block",
       .value_name = "N",
       .kind = K::kInteger,
       .target = &O::threads_per_block,
       .help = "Threads of such a block; there is one plan, and this is its number.",
       .min = layout::kThreads,
       .max = layout::kThreads},
      {.section = "Executor",
       .flag = "kv-layout",
       .path = "executor.kv_layout",
       .value_name = "NAME",
       .kind = K::kChoice,
       .target = &O::kv_layout,
       .help = "Order of keys and values inside a page on a GPU; both give the same tokens.",
       .choices = {"head-major", "token-major"}},

      {.section = "Executor",
       .flag = "stall-timeout",
       .path = "executor.stall_timeout",
       .value_name = "TIME",
       .kind = K::kDuration,
       .target = &O::stall_timeout,
       .help =
           "An executor that has work and does not move for this long has failed: health turns to NOT_SERVING, every "
           "stream ends with EXECUTOR_FAILED, the state is logged and the server exits with status 1. Moving is "
           "progress inside a step, so long steps are no failure; nor is time in which the process is stopped.",
       .min = 500,
       .max = kHourMs},

      {.section = "Limits",
       .flag = "max-context",
       .path = "limits.max_context",
       .value_name = "N",
       .kind = K::kInteger,
       .target = &O::max_context,
       .help = "Tokens of one sequence, prompt and output together.",
       .min = 2,
       .max = 1 << 20,
       .may_be_auto = true,
       .auto_means = "what the model was made for"},
      {.section = "Limits",
       .flag = "max-sequences",
       .path = "limits.max_sequences",
       .value_name = "N",
       .kind = K::kInteger,
       .target = &O::max_sequences,
       .help = "Sequences that are computed at the same time.",
       .min = 1,
       .max = 128},
      {.section = "Limits",
       .flag = "max-rows",
       .path = "limits.max_rows",
       .value_name = "N",
       .kind = K::kInteger,
       .target = &O::max_rows,
       .help = "Tokens that one step of the model computes at most.",
       .min = 1,
       .max = 512},
      {.section = "Limits",
       .flag = "prompt-rows-busy",
       .path = "limits.prompt_rows_busy",
       .value_name = "N",
       .kind = K::kInteger,
       .target = &O::prompt_rows_busy,
       .help = "Of these, prompt tokens beside sequences that are generating: bounds the pause that a long prompt "
               "causes to the others.",
       .min = 1,
       .max = 512,
       .may_be_auto = true,
       .auto_means = "a quarter of the executor's rows, at least 16"},
      {.section = "Limits",
       .flag = "max-queue",
       .path = "limits.max_queue",
       .value_name = "N",
       .kind = K::kInteger,
       .target = &O::max_queue,
       .help = "Requests that may wait. One more is refused with RESOURCE_EXHAUSTED (QUEUE_FULL).",
       .min = 1,
       .max = 65536},
      {.section = "Limits",
       .flag = "max-sessions",
       .path = "limits.max_sessions",
       .value_name = "N",
       .kind = K::kInteger,
       .target = &O::max_sessions,
       .help = "Sessions that may exist.",
       .min = 1,
       .max = 1 << 20},
      {.section = "Limits",
       .flag = "session-ttl",
       .path = "limits.session_ttl",
       .value_name = "TIME",
       .kind = K::kDuration,
       .target = &O::session_ttl,
       .help = "Idle time after which a session expires, unless CreateSession says otherwise.",
       .min = 1000,
       .max = 24 * kHourMs},
      {.section = "Limits",
       .flag = "session-dir",
       .path = "limits.session_dir",
       .value_name = "FOLDER",
       .kind = K::kString,
       .target = &O::session_dir,
       .help =
           "Where SaveSession writes and RestoreSession reads; made if it does not exist. Only the server may write "
           "there. Without it sessions cannot be saved."},
      {.section = "Limits",
       .flag = "max-saved-sessions",
       .path = "limits.max_saved_sessions",
       .value_name = "N",
       .kind = K::kInteger,
       .target = &O::max_saved_sessions,
       .help = "Saved sessions that one tenant may have.",
       .min = 1,
       .max = 1 << 20},
  };
}

}  // namespace

std::span<const Option> Options() {
  static const std::vector<Option> table = [] {
    std::vector<Option> rows = EngineOptionRows();
    std::vector<Option> service = ServiceOptionRows();
    rows.insert(rows.end(), std::make_move_iterator(service.begin()), std::make_move_iterator(service.end()));
    return rows;
  }();
  return table;
}

}  // namespace megakernel
