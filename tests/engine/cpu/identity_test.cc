// The same sequence gives the same bits alone and in any company: batch, threads, chunk, page size, cached prefix,
// fork, instruction set. Logprobs are compared too: they hold the bits of the logits.
#include <gtest/gtest.h>

#include "tests/engine/cpu/runner.h"
#include "tests/engine/cpu/synthetic_model.h"

namespace megakernel::test {
namespace {

CpuOptions Base() {
  CpuOptions options;
  options.threads = 2;
  options.num_pages = 400;
  options.poison = true;
  return options;
}

const SyntheticModel& TestModel() {
  static const SyntheticModel* model = new SyntheticModel(SyntheticOptions{});
  return *model;
}

// Prompts that end before, at and after blocks and pages.
std::vector<Ask> Prompts(std::int32_t vocab) {
  std::vector<Ask> asks;
  std::uint32_t seed = 7;
  for (std::int32_t length : {1, 2, 3, 15, 63, 64, 65, 130, 200}) {
    Ask ask;
    ask.tokens = RandomTokens(length, vocab, seed++);
    ask.max_tokens = 12;
    asks.push_back(ask);
  }
  return asks;
}

std::vector<Outcome> RunTogether(const Model& model, const CpuOptions& options, const std::vector<Ask>& asks) {
  Runner runner = NewRunner(model, options);
  std::vector<std::uint32_t> epochs;
  for (const Ask& ask : asks) epochs.push_back(runner.Start(ask));
  std::vector<Outcome> outcomes;
  for (std::uint32_t epoch : epochs) outcomes.push_back(runner.Finish(epoch));
  return outcomes;
}

std::vector<Outcome> RunAlone(const Model& model, const CpuOptions& options, const std::vector<Ask>& asks) {
  Runner runner = NewRunner(model, options);
  std::vector<Outcome> outcomes;
  for (const Ask& ask : asks) outcomes.push_back(runner.Run(ask));
  return outcomes;
}

void ExpectSame(const std::vector<Outcome>& expected, const std::vector<Outcome>& got) {
  ASSERT_EQ(expected.size(), got.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i].tokens, expected[i].tokens) << "sequence " << i;
    EXPECT_EQ(got[i].logprobs, expected[i].logprobs) << "sequence " << i;
    EXPECT_EQ(got[i].tokens.size(), 12u);
  }
}

const std::vector<Outcome>& Expected() {
  static const auto* outcomes =
      new std::vector<Outcome>(RunAlone(TestModel(), Base(), Prompts(TestModel().config().vocab)));
  return *outcomes;
}

TEST(IdentityTest, TextsDiffer) {
  // Else equality would show nothing.
  for (std::size_t i = 1; i < Expected().size(); ++i) EXPECT_NE(Expected()[i].tokens, Expected()[i - 1].tokens);
}

TEST(IdentityTest, AnyBatch) {
  ExpectSame(Expected(), RunTogether(TestModel(), Base(), Prompts(250)));
}

TEST(IdentityTest, AnyThreadCount) {
  for (std::int32_t threads : {1, 2, 3, 5}) {
    SCOPED_TRACE(threads);
    CpuOptions options = Base();
    options.threads = threads;
    ExpectSame(Expected(), RunAlone(TestModel(), options, Prompts(250)));
    ExpectSame(Expected(), RunTogether(TestModel(), options, Prompts(250)));
  }
}

TEST(IdentityTest, AnyChunk) {
  for (std::int32_t rows : {1, 2, 3, 7, 64}) {
    SCOPED_TRACE(rows);
    CpuOptions options = Base();
    options.max_rows = rows;
    ExpectSame(Expected(), RunAlone(TestModel(), options, Prompts(250)));
    ExpectSame(Expected(), RunTogether(TestModel(), options, Prompts(250)));
  }
}

TEST(IdentityTest, AnyPageSize) {
  for (std::int32_t tokens : {1, 4, 48, 128}) {
    SCOPED_TRACE(tokens);
    CpuOptions options = Base();
    options.page_tokens = tokens;
    options.num_pages = 2000;
    ExpectSame(Expected(), RunTogether(TestModel(), options, Prompts(250)));
  }
}

TEST(IdentityTest, AnyInstructionSet) {
  for (CpuIsa isa : cpu::WorkingIsas()) {
    SCOPED_TRACE(CpuIsaName(isa));
    CpuOptions options = Base();
    options.isa = isa;
    ExpectSame(Expected(), RunTogether(TestModel(), options, Prompts(250)));
  }
}

// Every element type, and what Qwen adds; fp32 KV; the reference mode.
struct Variant {
  const char* name;
  SyntheticOptions model;
  CpuOptions executor;
};

std::vector<Variant> Variants() {
  std::vector<Variant> variants;
  for (TensorType type :
       {TensorType::kF32, TensorType::kF16, TensorType::kBF16, TensorType::kQ8_0, TensorType::kQ4_0, TensorType::kQ5_0,
        TensorType::kQ5_1, TensorType::kIQ4_NL, TensorType::kQ4_K, TensorType::kQ5_K, TensorType::kQ6_K}) {
    Variant variant{TensorTypeName(type), {}, Base()};
    if (BlockElements(type) == 256) {
      variant.model.hidden = variant.model.ffn = 256;
      variant.model.num_q_heads = 8;
    }
    variant.model.matrices = type;
    variant.model.tied_embedding = false;
    variants.push_back(variant);
  }
  Variant qwen{"qwen", {}, Base()};
  qwen.model.qk_norm = qwen.model.qkv_bias = true;
  qwen.model.head_dim = 64;
  qwen.model.num_q_heads = 4;
  variants.push_back(qwen);
  Variant odd{"odd", {}, Base()};
  odd.model.matrices = odd.model.embedding = TensorType::kF32;
  odd.model.hidden = 72;
  odd.model.ffn = 100;
  odd.model.vocab = 250;
  odd.model.num_q_heads = odd.model.num_kv_heads = 3;
  variants.push_back(odd);
  Variant kv{"kv_fp32", {}, Base()};
  kv.executor.kv_type = CpuKvType::kFp32;
  variants.push_back(kv);
  Variant reference{"fp32", {}, Base()};
  reference.executor.precision = CpuPrecision::kFp32;
  variants.push_back(reference);
  return variants;
}

TEST(IdentityTest, AnyVariant) {
  for (const Variant& variant : Variants()) {
    SCOPED_TRACE(variant.name);
    const SyntheticModel model(variant.model);
    const std::vector<Ask> prompts = Prompts(250);
    const std::vector<Outcome> expected = RunAlone(model, variant.executor, prompts);
    CpuOptions options = variant.executor;
    ExpectSame(expected, RunTogether(model, options, prompts));
    options.threads = 3;
    options.max_rows = 5;
    options.page_tokens = 4;
    options.num_pages = 1000;
    ExpectSame(expected, RunTogether(model, options, prompts));
    options.isa = CpuIsa::kPlain;
    ExpectSame(expected, RunTogether(model, options, prompts));
  }
}

TEST(IdentityTest, CachedPrefixAndFork) {
  for (std::int32_t page_tokens : {4, 64}) {
    SCOPED_TRACE(page_tokens);
    CpuOptions options = Base();
    options.page_tokens = page_tokens;
    options.num_pages = 1000;
    Runner runner = NewRunner(TestModel(), options);
    Ask ask;
    ask.tokens = RandomTokens(150, 250, 99);
    ask.max_tokens = 20;
    ask.pages = runner.Pages(170);
    const Outcome whole = runner.Run(ask);
    ASSERT_EQ(whole.kv_length, 169);

    // Two forks in the middle of a page, after a prefix that ends at, before or inside one.
    for (std::int32_t shared : {1, 64, 67, 128, 149}) {
      Ask fork = ask;
      fork.kv_length = shared;
      const std::int32_t full = shared / page_tokens;
      fork.pages.assign(ask.pages.begin(), ask.pages.begin() + full);
      const std::vector<PageId> fresh = runner.Pages(170 - full * page_tokens);
      if (shared % page_tokens != 0) {
        ASSERT_TRUE(runner.executor().Submit(CopyPage{ask.pages[full], fresh[0]}).ok());
      }
      fork.pages.insert(fork.pages.end(), fresh.begin(), fresh.end());
      const Outcome forked = runner.Run(fork);
      EXPECT_TRUE(SameText(whole, forked)) << shared;
    }
  }
}

TEST(IdentityTest, PagesThroughAnotherExecutor) {
  for (std::int32_t page_tokens : {4, 64}) {
    SCOPED_TRACE(page_tokens);
    CpuOptions options = Base();
    options.page_tokens = page_tokens;
    options.num_pages = 1000;
    Runner first = NewRunner(TestModel(), options);
    Ask ask;
    ask.tokens = RandomTokens(150, 250, 99);
    ask.max_tokens = 20;
    ask.pages = first.Pages(170);
    const Outcome whole = first.Run(ask);

    Runner second = NewRunner(TestModel(), options);
    EXPECT_EQ(first.executor().info().page_format, second.executor().info().page_format);
    second.Pages(3 * page_tokens);  // other ids
    const std::int32_t full = 149 / page_tokens;
    const std::vector<PageId> source(ask.pages.begin(), ask.pages.begin() + full);
    ask.pages = second.Pages(170);
    const std::vector<PageId> target(ask.pages.begin(), ask.pages.begin() + full);
    ASSERT_TRUE(second.executor().Submit(WritePages{.pages = target, .bytes = first.ReadBytes(source)}).ok());
    ask.kv_length = full * page_tokens;
    EXPECT_TRUE(SameText(whole, second.Run(ask)));
  }
}

TEST(IdentityTest, SampledTextToo) {
  std::vector<Ask> prompts = Prompts(250);
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    prompts[i].sampling.temperature = 1.0f;
    prompts[i].sampling.seed = 1000 + i;
    prompts[i].sampling.top_p = 0.9f;
    prompts[i].sampling.repetition_penalty = 1.1f;
  }
  const std::vector<Outcome> expected = RunAlone(TestModel(), Base(), prompts);
  ExpectSame(expected, RunTogether(TestModel(), Base(), prompts));
  CpuOptions options = Base();
  options.threads = 1;
  options.isa = CpuIsa::kPlain;
  options.max_rows = 7;
  ExpectSame(expected, RunTogether(TestModel(), options, prompts));
}

}  // namespace
}  // namespace megakernel::test
