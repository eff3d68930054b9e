// Runs the resident kernel on random weights of a named shape without a server: greedy tokens against the host
// reference (teacher-forced), eight lanes against one alone, microseconds a token. Needs a Hopper GPU; not part of
// `make test`.
//   nvcc -gencode arch=compute_90a,code=sm_90a -std=c++20 -O3 -I. tests/gpu/n_step.cu kernels/device/megakernel.cu \
//       kernels/host/*.cc kernels/reference/*.cc -o n_step
//   n_step SHAPE [tokens] [tokens to check] [prompt length] [kv layout] [blocks] [context]
// Environment: WL, WH: copies in flight in layers and head; TRACE: cycles per mark (needs -DMEGAKERNEL_TRACE).
#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "kernels/device/block.cuh"
#include "kernels/device/megakernel.h"
#include "kernels/host/pack.h"
#include "kernels/host/program_build.h"
#include "kernels/reference/forward.h"
#include "kernels/reference/rope.h"

using namespace megakernel;
using layout::Program;
static_assert(sizeof(device::BlockState) <= layout::kBlockStateBytes);

#define CK(x)                                                                        \
  do {                                                                               \
    cudaError_t e_ = (x);                                                            \
    if (e_ != cudaSuccess) {                                                         \
      printf("CUDA %s:%d %s: %s\n", __FILE__, __LINE__, #x, cudaGetErrorString(e_)); \
      fflush(stdout);                                                                \
      exit(1);                                                                       \
    }                                                                                \
  } while (0)

struct Shape {
  const char* name;
  int layers, hidden, q, kv, hd, ffn, vocab;
  bool qk_norm, tied;
  double theta;
};
static const Shape kShapes[] = {
    {"tiny", 2, 256, 4, 2, 128, 512, 1000, true, true, 1e6},
    {"tiny64", 3, 576, 9, 3, 64, 1536, 2000, false, true, 1e5},
    {"llamatiny", 2, 512, 16, 4, 64, 1024, 3000, false, false, 5e5},
    {"qwen3-0.6b", 28, 1024, 16, 8, 128, 3072, 151936, true, true, 1e6},
    {"llama-1b", 16, 2048, 32, 8, 64, 8192, 128256, false, true, 5e5},
};
static unsigned Hash(unsigned x) {
  x ^= x >> 16;
  x *= 0x7feb352du;
  x ^= x >> 15;
  x *= 0x846ca68bu;
  x ^= x >> 16;
  return x;
}
struct Weights {
  std::vector<std::vector<std::uint16_t>> store;
  reference::ModelView view;
  unsigned salt = 1;
  reference::Tensor Make(std::int64_t rows, std::int64_t cols, float mean, float dev) {
    store.emplace_back(rows * cols);
    auto& v = store.back();
    const unsigned s = Hash(salt++ * 7919u);
    const int n = std::max(1u, std::thread::hardware_concurrency());
    std::vector<std::thread> pool;
    for (int t = 0; t < n; ++t)
      pool.emplace_back([&, t] {
        for (std::int64_t i = rows * cols * t / n; i < rows * cols * (t + 1) / n; ++i) {
          const unsigned h = Hash(static_cast<unsigned>(i) ^ s), h2 = Hash(h + 0x9e3779b9u);
          const float u = (float)(h & 0xffff) + (h >> 16) + (h2 & 0xffff) + (h2 >> 16) - 131070.0f;  // near normal
          const float x = mean + dev * u / 37837.0f;
          unsigned b;
          memcpy(&b, &x, 4);
          v[i] = static_cast<std::uint16_t>((b + 0x7fff + ((b >> 16) & 1)) >> 16);
        }
      });
    for (auto& t : pool) t.join();
    return {reference::ElementType::kBF16, rows, cols, v.data()};
  }
};
static void Build(const Shape& s, Weights& w) {
  w.store.reserve(4096);
  auto& v = w.view;
  v.shape = {s.layers, s.hidden, s.q, s.kv, s.hd, s.ffn, s.vocab, 1e-6, {}};
  v.shape.rope.theta = s.theta;
  auto mat = [&](std::int64_t r, std::int64_t c, float g) { return w.Make(r, c, 0, g / std::sqrt((float)c)); };
  v.embedding = v.lm_head = mat(s.vocab, s.hidden, 2.5f);
  if (!s.tied) v.lm_head = mat(s.vocab, s.hidden, 2.5f);
  v.final_norm = w.Make(1, s.hidden, 1, 0.1f);
  for (int l = 0; l < s.layers; ++l) {
    reference::Layer y;
    y.attention_norm = w.Make(1, s.hidden, 1, 0.1f);
    y.ffn_norm = w.Make(1, s.hidden, 1, 0.1f);
    y.wq = mat(s.q * s.hd, s.hidden, s.qk_norm ? 1 : 1.25f);
    y.wk = mat(s.kv * s.hd, s.hidden, s.qk_norm ? 1 : 1.25f);
    y.wv = mat(s.kv * s.hd, s.hidden, 1);
    if (s.qk_norm) {
      y.q_norm = w.Make(1, s.hd, 1.25f, 0.1f);
      y.k_norm = w.Make(1, s.hd, 1.25f, 0.1f);
    }
    y.wo = mat(s.hidden, s.q * s.hd, 0.5f);
    y.w_gate = mat(s.ffn, s.hidden, 1);
    y.w_up = mat(s.ffn, s.hidden, 1);
    y.w_down = mat(s.hidden, s.ffn, 0.5f);
    v.layers.push_back(y);
  }
}
struct Runner {
  Program p;
  device::KernelArgs args;
  cudaStream_t stream;
  layout::CommandLine* commands;
  layout::EventLine* events;
  layout::MailboxControl* control;
  std::int32_t *tokens, *pages, *stops;
  std::uint64_t next_command = 1, next_event = 1;
  unsigned epoch = 1;
  Runner(const reference::ModelView& view, host::ProgramOptions o, int sms, int shared) {
    std::string error;
    if (!host::BuildProgram(view, {sms, shared}, o, p, error)) {
      printf("program: %s\n", error.c_str());
      exit(1);
    }
    printf(
        "program: blocks %d per group %d slots %d shared %d capacity %d strips %d %d %d %d layer %.2f MB weights %.1f "
        "MB workspace %.1f MB\n",
        p.num_blocks, p.blocks_per_group, p.num_slots, p.shared.total, p.task_capacity, p.matrix[0].strips,
        p.matrix[1].strips, p.matrix[2].strips, p.matrix[3].strips, p.layer_bytes / 1e6, p.weight_bytes / 1e6,
        p.workspace.total / 1e6);
    std::vector<std::uint8_t> arena(p.weight_bytes);
    host::PackStatistics st;
    auto t0 = std::chrono::steady_clock::now();
    host::PackWeights(view, p, std::max(1u, std::thread::hardware_concurrency()), arena.data(), st);
    printf("packed in %.2f s, inexact %lld\n",
           std::chrono::duration<double>(std::chrono::steady_clock::now() - t0).count(), (long long)st.inexact);
    args.program = p;
    std::uint8_t *wd, *ws, *kv;
    float2* rope;
    CK(cudaMalloc(&wd, p.weight_bytes));
    CK(cudaMemcpy(wd, arena.data(), p.weight_bytes, cudaMemcpyHostToDevice));
    CK(cudaMalloc(&ws, p.workspace.total));
    CK(cudaMalloc(&kv, p.kv.PageBytes() * p.num_kv_pages));
    CK(cudaMemset(kv, 0xff, p.kv.PageBytes() * p.num_kv_pages));  // NaN
    std::vector<float2> r(std::size_t(p.max_context) * p.head_dim / 2);
    for (int pos = 0; pos < p.max_context; ++pos)
      for (int i = 0; i < p.head_dim / 2; ++i) {
        const double a = pos * std::pow(view.shape.rope.theta, -2.0 * i / p.head_dim);
        r[std::size_t(pos) * p.head_dim / 2 + i] = make_float2((float)std::cos(a), (float)std::sin(a));
      }
    CK(cudaMalloc(&rope, r.size() * 8));
    CK(cudaMemcpy(rope, r.data(), r.size() * 8, cudaMemcpyHostToDevice));
    args.weights = wd;
    args.workspace = ws;
    args.kv = kv;
    args.rope = rope;
    CK(cudaHostAlloc(&commands, sizeof(*commands) * layout::kCommandLines, cudaHostAllocMapped));
    memset(commands, 0, sizeof(*commands) * layout::kCommandLines);
    CK(cudaHostAlloc(&events, sizeof(*events) * layout::kEventLines, cudaHostAllocMapped));
    memset(events, 0, sizeof(*events) * layout::kEventLines);
    CK(cudaHostAlloc(&control, sizeof(*control), cudaHostAllocMapped));
    memset(control, 0, sizeof(*control));
    CK(cudaHostAlloc(&tokens, 4ll * p.max_lanes * p.max_context, cudaHostAllocMapped));
    CK(cudaHostAlloc(&pages, 4ll * p.max_lanes * p.max_pages, cudaHostAllocMapped));
    CK(cudaHostAlloc(&stops, 4ll * p.max_lanes * layout::kMaxStopTokens, cudaHostAllocMapped));
    args.control = control;
    args.commands = commands;
    args.events = events;
    args.lanes = {tokens, pages, stops};
    args.leave_when_idle = 1;
    CK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    CK(device::PrepareKernel(p));
    int n = 0;
    CK(device::MaxResidentBlocks(p, &n));
    printf("resident blocks per SM %d\n", n);
    if (n < 1) exit(1);
  }
  void Reset() {
    CK(cudaMemset(args.workspace, 0, p.workspace.total));
    auto s = std::make_unique<layout::SchedulerState>();
    s->table.num_lanes = p.max_lanes;
    s->policy = {8, 8, 8};
    CK(cudaMemcpy(args.workspace + p.workspace.scheduler, s.get(), sizeof(*s), cudaMemcpyHostToDevice));
  }
  void Admit(int lane, const std::vector<int>& prompt, int limit, float temperature, int top_k, int kv_length = 0) {
    memcpy(tokens + (long long)lane * p.max_context, prompt.data(), prompt.size() * 4);
    const int n = layout::PagesFor(limit, p.kv.page_tokens);
    for (int i = 0; i < n; ++i)
      pages[lane * p.max_pages + i] = (lane * p.max_pages + i * 7 % p.max_pages) % p.num_kv_pages;
    if (p.max_pages % 7 == 0)
      for (int i = 0; i < n; ++i) pages[lane * p.max_pages + i] = lane * p.max_pages + i;
    layout::CommandLine c;
    c.type = layout::CommandType::kAdmit;
    c.lane = lane;
    c.epoch = epoch++;
    c.order = c.epoch;
    c.seed = 1;
    c.num_tokens = prompt.size();
    c.kv_length = kv_length;
    c.token_limit = limit;
    c.num_pages = n;
    c.temperature = temperature;
    c.top_k = top_k;
    layout::CommandLine& line = commands[(next_command - 1) % layout::kCommandLines];
    c.sequence = 0;
    memcpy(&line, &c, sizeof c);
    __sync_synchronize();
    line.sequence = next_command++;
  }
  // Runs what was admitted; tokens per lane. Returns microseconds on the device.
  double Run(std::vector<std::vector<int>>& out, double timeout = 20) {
    Reset();
    args.first_command = commands_seen;
    args.first_event = next_event;
    cudaEvent_t a, b;
    CK(cudaEventCreate(&a));
    CK(cudaEventCreate(&b));
    control->fault = 0;
    CK(cudaStreamSynchronize(0));
    CK(cudaEventRecord(a, stream));
    CK(device::LaunchKernel(args, stream));
    CK(cudaEventRecord(b, stream));
    out.assign(p.max_lanes, {});
    times.clear();
    auto t0 = std::chrono::steady_clock::now();
    bool done = false;
    while (true) {
      volatile layout::EventLine* e = &events[(next_event - 1) % layout::kEventLines];
      if (e->sequence == next_event) {
        if (e->kind == (int)layout::EventKind::kToken) {
          out[e->lane].push_back((int)e->token);
          times.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - t0).count());
        }
        ++next_event;
        control->events_drained = next_event - 1;
        continue;
      }
      if (done) break;
      if (cudaStreamQuery(stream) != cudaErrorNotReady) {
        done = true;
        continue;
      }
      if (std::chrono::duration<double>(std::chrono::steady_clock::now() - t0).count() > timeout) {
        printf("TIMEOUT fault %llx detail %llx steps %llu\n", (unsigned long long)control->fault,
               (unsigned long long)control->fault_detail, (unsigned long long)control->steps);
        fflush(stdout);
        _exit(3);
      }
    }
    cudaError_t err = cudaStreamSynchronize(stream);
    if (err != cudaSuccess) {
      printf("kernel: %s fault %llx detail %llx steps %llu\n", cudaGetErrorString(err),
             (unsigned long long)control->fault, (unsigned long long)control->fault_detail,
             (unsigned long long)control->steps);
      fflush(stdout);
      _exit(2);
    }
    commands_seen = next_command;
    float ms;
    CK(cudaEventElapsedTime(&ms, a, b));
    return ms * 1e3;
  }
  std::uint64_t commands_seen = 1;
  std::vector<double> times;
};
int main(int argc, char** argv) {
  const std::string name = argc > 1 ? argv[1] : "tiny";
  const int steps = argc > 2 ? atoi(argv[2]) : 64;
  const int check = argc > 3 ? atoi(argv[3]) : 40;  // tokens to check with the reference
  const int prompt_len = argc > 4 ? atoi(argv[4]) : 5;
  const int layout_id = argc > 5 ? atoi(argv[5]) : 1;
  const int blocks = argc > 6 ? atoi(argv[6]) : 0;
  const int max_context = argc > 7 ? atoi(argv[7]) : 2048;
  const Shape* s = nullptr;
  for (auto& x : kShapes)
    if (name == x.name) s = &x;
  if (!s) {
    printf("no shape %s\n", name.c_str());
    return 2;
  }
  cudaDeviceProp d;
  CK(cudaGetDeviceProperties(&d, 0));
  printf("== %s on %s, %d SMs, %zu shared\n", s->name, d.name, d.multiProcessorCount, d.sharedMemPerBlockOptin);
  Weights w;
  Build(*s, w);
  host::ProgramOptions o;
  o.persistent_blocks = blocks;
  o.kv_layout = layout_id ? layout::KvLayout::kHeadMajor : layout::KvLayout::kTokenMajor;
  o.max_context = max_context;
  if (getenv("WL")) o.window_layers = atoi(getenv("WL"));
  if (getenv("WH")) o.window_head = atoi(getenv("WH"));
  Runner r(w.view, o, d.multiProcessorCount, (int)d.sharedMemPerBlockOptin);
  std::vector<int> prompt;
  for (int i = 0; i < prompt_len; ++i) prompt.push_back(Hash(i + 17) % s->vocab);
  std::vector<std::vector<int>> out, again;
  r.Admit(0, prompt, prompt_len + steps, 1.0f, 1);
  double us = r.Run(out);
  printf("greedy by top_k=1: %zu tokens, %.1f us a token\n", out[0].size(), us / out[0].size());
  if (check > 0) {
    std::vector<float> logits(s->vocab);
    CK(cudaMemcpy(logits.data(), r.args.workspace + r.p.workspace.logits, 4ll * s->vocab, cudaMemcpyDeviceToHost));
    reference::ForwardOptions fo;
    fo.threads = std::max(1u, std::thread::hardware_concurrency());
    reference::Forward<float> f(w.view, fo);
    f.Step(prompt);
    std::vector<float> l = f.Logits(prompt_len - 1);
    int wrong = 0;
    double gap_worst = 0;
    const int n = std::min<int>(check, out[0].size());
    for (int i = 0; i < n; ++i) {
      const int best = std::max_element(l.begin(), l.end()) - l.begin();
      if (best != out[0][i]) {
        ++wrong;
        gap_worst = std::max<double>(gap_worst, l[best] - l[out[0][i]]);
        if (wrong < 4) printf("  step %d: got %d (%.4f) want %d (%.4f)\n", i, out[0][i], l[out[0][i]], best, l[best]);
      }
      if (i + 1 < n) {
        const std::int32_t t[1] = {out[0][i]};
        f.Step(t);
        l = f.Logits(0);
      }
    }
    printf("teacher-forced: %d of %d argmax differ, worst gap %.5f\n", wrong, n, gap_worst);
    if (n == steps) {
      double e = 0, m = 0, worst = 0;
      for (int i = 0; i < s->vocab; ++i) {
        e += std::pow((double)logits[i] - l[i], 2);
        m += std::pow((double)l[i], 2);
        worst = std::max(worst, std::fabs((double)logits[i] - l[i]));
      }
      printf("last logits: relative error %.3e, worst abs %.4f\n", std::sqrt(e / m), worst);
    }
  }
  r.Admit(0, prompt, prompt_len + steps, 0.0f, 0);
  for (int rep = 0; rep < 3; ++rep) {
    if (rep) r.Admit(0, prompt, prompt_len + steps, 0.0f, 0);
    us = r.Run(again);
    double med = 0;
    {
      std::vector<double> g;
      for (size_t i = 1; i < r.times.size(); ++i) g.push_back(r.times[i] - r.times[i - 1]);
      std::sort(g.begin(), g.end());
      if (g.size()) med = g[g.size() / 2];
    }
    printf("greedy: %zu tokens, same as before %d, %.1f us a token (kernel incl. prompt), median gap %.1f us\n",
           again[0].size(), again[0] == out[0], us / again[0].size(), med);
  }
  if (getenv("TRACE")) {
    r.Admit(0, prompt, prompt_len + 6, 0.0f, 0);
    r.Run(again);
    const int B = r.p.num_blocks;
    std::vector<unsigned long long> t(B * 4096ull);
    CK(cudaMemcpy(t.data(), r.args.workspace + r.p.workspace.trace, t.size() * 8, cudaMemcpyDeviceToHost));
    double sum[48] = {}, mx[48] = {};
    long n[48] = {};
    for (int b = 0; b < B; ++b) {
      unsigned long long* q = &t[b * 4096ull];
      int steps_seen = 0;
      for (unsigned long long i = 2; i <= q[0] && i < 4096; ++i) {
        int m = q[i] & 255;
        if ((q[i - 1] & 255) == 40) ++steps_seen;
        if (steps_seen < 3) continue;
        double dd = double((q[i] >> 8) - (q[i - 1] >> 8));
        sum[m] += dd;
        mx[m] = std::max(mx[m], dd);
        ++n[m];
      }
    }
    const char* names[] = {"begin", "before", "preload", "prologue", "sync", "multiply", "sync2", "epilogue"};
    for (int m = 0; m < 48; ++m)
      if (n[m])
        printf("mark %2d %s mean %.0f cycles max %.0f n %ld\n", m, m < 40 ? names[m & 7] : "step", sum[m] / n[m], mx[m],
               n[m]);
  }
  // Eight lanes with different prompts; lane 0's must not change.
  for (int lane = 0; lane < 8; ++lane) {
    std::vector<int> q = prompt;
    if (lane)
      for (int i = 0; i < lane * 3; ++i) q.push_back(Hash(1000 * lane + i) % s->vocab);
    r.Admit(lane, q, std::min<int>(q.size() + steps, max_context), 0.0f, 0);
  }
  us = r.Run(again);
  size_t total = 0;
  for (auto& v : again) total += v.size();
  double med = 0;
  {
    std::vector<double> g;
    for (size_t i = 8; i < r.times.size(); i += 8) g.push_back(r.times[i] - r.times[i - 8]);
    std::sort(g.begin(), g.end());
    if (g.size()) med = g[g.size() / 2];
  }
  printf("8 lanes: %zu tokens, lane 0 as alone %d, %.1f us a step (kernel), median of 8 tokens %.1f us\n", total,
         again[0] == out[0], us / steps, med);
  return 0;
}