// Bad GGUF files: every one is refused, with a message that names the key or tensor and the limit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "engine/model/gguf_file.h"
#include "engine/model/model.h"
#include "tests/engine/model/gguf_writer.h"
#include "tests/engine/model/refusal.h"
#include "tests/engine/model/temp_file.h"

namespace megakernel {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

struct BadFile {
  const char* name;
  std::function<void(GgufWriter&)> spoil;
  const char* message;
};

class BadFileTest : public testing::TestWithParam<BadFile> {};

TEST_P(BadFileTest, IsRefusedByName) {
  GgufWriter writer = TinyLlama();
  GetParam().spoil(writer);
  const TempFile file(writer.Bytes());
  const std::string message =
      test::ExpectRefusal([&] { return LoadModel(file.path()); }, file.path(), GetParam().message);
  EXPECT_THAT(message, StartsWith(file.path() + ": "));
}

const std::string& Float(float value) {
  static std::string bytes;
  bytes = ByteWriter().Put(value).bytes();
  return bytes;
}

constexpr std::uint64_t kHuge = std::numeric_limits<std::uint64_t>::max();
const char* const kAttnQ = "blk.0.attn_q.weight";

INSTANTIATE_TEST_SUITE_P(
    Container, BadFileTest,
    testing::Values(
        BadFile{"Magic", [](GgufWriter& f) { f.magic = "GGML"; }, "magic: not a GGUF file"},
        BadFile{"OldVersion", [](GgufWriter& f) { f.version = 1; }, "version: 1 is not supported (2 to 3)"},
        BadFile{"NewVersion", [](GgufWriter& f) { f.version = 4; }, "version: 4 is not supported (2 to 3)"},
        BadFile{"BigEndian", [](GgufWriter& f) { f.version = 0x03000000; }, "looks big-endian"},
        BadFile{"KeyCount", [](GgufWriter& f) { f.extra_keys = 1ull << 60; },
                "key count: 1152921504606846995 keys cannot fit"},
        BadFile{"TensorCount", [](GgufWriter& f) { f.extra_tensors = 1ull << 60; }, "tensors cannot fit in the"},
        BadFile{"OneKeyTooMany", [](GgufWriter& f) { f.extra_keys = 1; }, "tensor number 0: the file ends at byte"},
        BadFile{"EmptyKey", [](GgufWriter& f) { f.keys[2].name = ""; },
                "key number 2: its name has 0 bytes (1 to 65535)"},
        BadFile{"LongKey", [](GgufWriter& f) { f.keys[2].name = std::string(65536, 'k'); },
                "its name has 65536 bytes (1 to 65535)"},
        BadFile{"RepeatedKey", [](GgufWriter& f) { f.keys.push_back(f.keys[3]); },
                "llama.context_length: the key appears twice"},
        BadFile{"ValueType", [](GgufWriter& f) { f.keys[2].type = 13; },
                "llama.block_count: value type 13 does not exist (0 to 12)"},
        BadFile{"ElementType",
                [](GgufWriter& f) {
                  f.Set({"x", 9, ByteWriter().Put(99).Put(0ull).bytes()});
                },
                "x: value type 99 does not exist"},
        BadFile{"NestedArray",
                [](GgufWriter& f) {
                  f.Set({"x", 9, ByteWriter().Put(9).Put(0ull).bytes()});
                },
                "x: arrays of arrays are not supported"},
        BadFile{"ArrayCount",
                [](GgufWriter& f) {
                  f.Set({"x", 9, ByteWriter().Put(5).Put(kHuge).bytes()});
                },
                "x: an array of 18446744073709551615 elements cannot fit"},
        BadFile{"StringLength",
                [](GgufWriter& f) {
                  f.Set({"x", 8, ByteWriter().Put(kHuge).bytes()});
                },
                "x: the file ends at byte"},
        BadFile{"Bool",
                [](GgufWriter& f) {
                  f.Set({"x", 7, "\x02"});
                },
                "x: a truth value that is neither 0 nor 1"},
        BadFile{"EscapedName",
                [](GgufWriter& f) {
                  f.Set({"x\n\x1b", 7, "\x02"});
                },
                "x\\n\\x1b: a truth value"},
        BadFile{"TensorName", [](GgufWriter& f) { f.tensors[1].name = std::string(65, 't'); },
                "tensor number 1: its name has 65 bytes (1 to 64)"},
        BadFile{"EmptyTensorName", [](GgufWriter& f) { f.tensors[1].name = ""; },
                "tensor number 1: its name has 0 bytes"},
        BadFile{"RepeatedTensor", [](GgufWriter& f) { f.tensors[2].name = "output_norm.weight"; },
                "output_norm.weight: the tensor appears twice"},
        BadFile{"Rank0", [](GgufWriter& f) { f.tensors[1].shape = {}; }, "output_norm.weight: rank 0 is not in 1 to 4"},
        BadFile{"Rank5",
                [](GgufWriter& f) {
                  f.tensors[1].shape = {2, 2, 2, 1, 1};
                },
                "output_norm.weight: rank 5 is not in 1 to 4"},
        BadFile{"ZeroSize", [](GgufWriter& f) { f.tensors[1].shape = {0}; }, "output_norm.weight: size 0 of axis 0"},
        BadFile{"Overflow",
                [](GgufWriter& f) {
                  f.tensors[0].shape = {1ull << 33, 1ull << 33};
                },
                "token_embd.weight: size 8589934592 of axis 1 is 0 or makes more than"},
        BadFile{"HugeSize",
                [](GgufWriter& f) {
                  f.tensors[0].shape = {kHuge, 5};
                },
                "token_embd.weight: size 18446744073709551615"},
        BadFile{"TensorType", [](GgufWriter& f) { f.tensors[0].type = 10; },
                "token_embd.weight: tensor type number 10 is not supported"},
        BadFile{"PartialBlock", [](GgufWriter& f) { f.tensors[0].type = 3; },
                "token_embd.weight: rows of 8 elements are not whole Q4_1 blocks of 32"},
        BadFile{"OddOffset", [](GgufWriter& f) { f.tensors[1].offset += 4; },
                "output_norm.weight: offset 164 is not a multiple of 32"},
        BadFile{"OffsetPastEnd", [](GgufWriter& f) { f.tensors[1].offset = 1ull << 40; },
                "output_norm.weight: its 32 bytes at offset 1099511627776 pass the"},
        BadFile{"OffsetWraps", [](GgufWriter& f) { f.tensors[1].offset = kHuge - 31; },
                "output_norm.weight: its 32 bytes at offset"},
        BadFile{"TooShort", [](GgufWriter& f) { f.tensors.back().data.resize(32); },
                "blk.0.ffn_down.weight: its 384 bytes at offset"},
        BadFile{"Overlap", [](GgufWriter& f) { f.tensors[1].offset = f.tensors[0].offset; }, "overlap those of"},
        BadFile{"Alignment", [](GgufWriter& f) { f.Uint32("general.alignment", 24); },
                "general.alignment: 24 is not a power of two"},
        BadFile{"SmallAlignment", [](GgufWriter& f) { f.Uint32("general.alignment", 0); },
                "general.alignment: 0 is not in 8 to 65536"},
        BadFile{"AlignmentType", [](GgufWriter& f) { f.Text("general.alignment", "32"); },
                "general.alignment: is a string, not an integer"}),
    [](const auto& info) { return info.param.name; });

INSTANTIATE_TEST_SUITE_P(
    Metadata, BadFileTest,
    testing::Values(BadFile{"NoArchitecture", [](GgufWriter& f) { f.Remove("general.architecture"); },
                            "general.architecture: the key is missing"},
                    BadFile{"Architecture", [](GgufWriter& f) { f.Text("general.architecture", "mamba"); },
                            "general.architecture: \"mamba\" is not supported (llama, qwen2, qwen3)"},
                    BadFile{"NoLayers", [](GgufWriter& f) { f.Remove("llama.block_count"); },
                            "llama.block_count: the key is missing"},
                    BadFile{"ZeroLayers", [](GgufWriter& f) { f.Uint32("llama.block_count", 0); },
                            "llama.block_count: 0 is not in 1 to 1024"},
                    BadFile{"ManyLayers", [](GgufWriter& f) { f.Uint32("llama.block_count", 4000000000u); },
                            "llama.block_count: 4000000000 is not in"},
                    BadFile{"NegativeHidden", [](GgufWriter& f) { f.Scalar("llama.embedding_length", 5, -8); },
                            "llama.embedding_length: -8 is not in 1 to 131072"},
                    BadFile{"HugeHidden", [](GgufWriter& f) { f.Scalar("llama.embedding_length", 10, kHuge); },
                            "llama.embedding_length: more than 2^63 is not in"},
                    BadFile{"TextHidden", [](GgufWriter& f) { f.Text("llama.embedding_length", "8"); },
                            "llama.embedding_length: is a string"},
                    BadFile{"Heads", [](GgufWriter& f) { f.Uint32("llama.attention.head_count", 3); },
                            "llama.embedding_length: 8 is not a multiple of the 3 heads"},
                    BadFile{"KvHeads", [](GgufWriter& f) { f.Uint32("llama.attention.head_count_kv", 3); },
                            "llama.attention.head_count: 2 heads are not a multiple of the 3"},
                    BadFile{"HeadDim", [](GgufWriter& f) { f.Uint32("llama.attention.key_length", 5); },
                            "heads of 5 elements (an even number"},
                    BadFile{"ValueLength", [](GgufWriter& f) { f.Uint32("llama.attention.value_length", 6); },
                            "llama.attention.value_length: 6 differs from the 4 elements of a head"},
                    BadFile{"PartialRope", [](GgufWriter& f) { f.Uint32("llama.rope.dimension_count", 2); },
                            "llama.rope.dimension_count: 2 differs from the 4 elements of a head"},
                    BadFile{"Epsilon", [](GgufWriter& f) { f.Float32("llama.attention.layer_norm_rms_epsilon", 0.0f); },
                            "llama.attention.layer_norm_rms_epsilon: 0 is not in 1e-12 to 1"},
                    BadFile{"NanTheta",
                            [](GgufWriter& f) {
                              f.Float32("llama.rope.freq_base", std::numeric_limits<float>::quiet_NaN());
                            },
                            "llama.rope.freq_base: is not a finite number"},
                    BadFile{"RopeType", [](GgufWriter& f) { f.Text("llama.rope.scaling.type", "yarn"); },
                            "llama.rope.scaling.type: \"yarn\" is not supported (none, linear)"},
                    BadFile{"Experts", [](GgufWriter& f) { f.Uint32("llama.expert_count", 8); },
                            "llama.expert_count: mixtures of experts"},
                    BadFile{"UnknownOption", [](GgufWriter& f) { f.Uint32("llama.attention.sliding_window", 512); },
                            "llama.attention.sliding_window: this option of the architecture is not supported"},
                    BadFile{"Split", [](GgufWriter& f) { f.Scalar<std::uint16_t>("split.count", 2, 3); },
                            "split.no: the key is missing"},
                    BadFile{"VocabSize", [](GgufWriter& f) { f.Uint32("llama.vocab_size", 6); },
                            "llama.vocab_size: 6 differs from the 5 rows"},
                    BadFile{"Eos", [](GgufWriter& f) { f.Uint32("tokenizer.ggml.eos_token_id", 5); },
                            "tokenizer.ggml.eos_token_id: 5 is not in 0 to 4"},
                    BadFile{"AddBos",
                            [](GgufWriter& f) {
                              f.Remove("tokenizer.ggml.bos_token_id");
                              f.Bool("tokenizer.ggml.add_bos_token", true);
                            },
                            "tokenizer.ggml.add_bos_token: is true, but there is no bos_token_id"},
                    BadFile{"TokenizerModel", [](GgufWriter& f) { f.Text("tokenizer.ggml.model", "bert"); },
                            "tokenizer.ggml.model: \"bert\" is not supported (gpt2, llama)"},
                    BadFile{"PieceScoresMissing", [](GgufWriter& f) { f.Text("tokenizer.ggml.model", "llama"); },
                            "tokenizer.ggml.scores: the key is missing"},
                    BadFile{"PieceScoresType",
                            [](GgufWriter& f) {
                              f.Text("tokenizer.ggml.model", "llama");
                              f.Int32s("tokenizer.ggml.scores", {1, 2, 3, 4, 5});
                            },
                            "tokenizer.ggml.scores: is not an array of float32"},
                    BadFile{"SpacePrefixType",
                            [](GgufWriter& f) {
                              f.Text("tokenizer.ggml.model", "llama");
                              f.Uint32("tokenizer.ggml.add_space_prefix", 1);
                            },
                            "tokenizer.ggml.add_space_prefix: "},
                    BadFile{"ByteTokenOfBytePairs",
                            [](GgufWriter& f) {
                              f.Int32s("tokenizer.ggml.token_type", {1, 1, 6, 3, 3});
                            },
                            "tokenizer.ggml: token 2 is a byte token"},
                    BadFile{"Pre", [](GgufWriter& f) { f.Text("tokenizer.ggml.pre", "odd"); },
                            "pre-tokenizer \"odd\" is not supported (gpt-2,"},
                    BadFile{"NoTokens", [](GgufWriter& f) { f.Remove("tokenizer.ggml.tokens"); },
                            "tokenizer.ggml.tokens: the key is missing"},
                    BadFile{"TokenTypes",
                            [](GgufWriter& f) {
                              f.Int32s("tokenizer.ggml.token_type", {1, 1});
                            },
                            "tokenizer.ggml.token_type: 2 types for the 5 tokens"},
                    BadFile{"TokenType",
                            [](GgufWriter& f) {
                              f.Int32s("tokenizer.ggml.token_type", {1, 1, 9, 3, 3});
                            },
                            "token 2 has type 9 (1 to 6)"},
                    BadFile{"Vocabulary",
                            [](GgufWriter& f) {
                              f.Texts("tokenizer.ggml.tokens", {"a", "b", "ab"});
                              f.Int32s("tokenizer.ggml.token_type", {1, 1, 1});
                            },
                            "tokenizer.ggml.tokens: 3 tokens for the 5 rows of token_embd.weight"},
                    BadFile{"Merge", [](GgufWriter& f) { f.Texts("tokenizer.ggml.merges", {"a q"}); },
                            "tokenizer.ggml: merge 0 \"a q\" joins something"},
                    BadFile{"Template", [](GgufWriter& f) { f.Text("tokenizer.chat_template", "x\n{% include %}"); },
                            "tokenizer.chat_template: line 2: the statement include is not supported"}),
    [](const auto& info) { return info.param.name; });

INSTANTIATE_TEST_SUITE_P(
    Tensors, BadFileTest,
    testing::Values(BadFile{"NoEmbedding",
                            [](GgufWriter& f) {
                              f.Remove("token_embd.weight");
                              f.Place();
                            },
                            "token_embd.weight: the tensor is missing"},
                    BadFile{"NoQ",
                            [](GgufWriter& f) {
                              f.Remove(kAttnQ);
                              f.Place();
                            },
                            "blk.0.attn_q.weight: the tensor is missing"},
                    BadFile{"Shape",
                            [](GgufWriter& f) {
                              f.Tensor(kAttnQ).shape = {4, 16};
                            },
                            "blk.0.attn_q.weight: has 16 rows of 4; the metadata asks for 8 of 8"},
                    BadFile{"NanScale",
                            [](GgufWriter& f) {
                              for (const char* key : {"llama.embedding_length", "llama.feed_forward_length"})
                                f.Uint32(key, 256);
                              f.Uint32("llama.rope.dimension_count", 128);
                              f.tensors[0] = {"token_embd.weight", {256, 5}, 12, std::string(5 * 144, '\0')};
                              f.tensors[0].data.replace(2 * 144 + 2, 2, "\x01\x7e");  // dmin of row 2
                              f.Place();
                            },
                            "token_embd.weight: row 2 holds a number that is NaN or infinite"},
                    BadFile{"NanWeight",
                            [](GgufWriter& f) {
                              f.Tensor(kAttnQ).data.replace(3 * 32, 4, Float(std::numeric_limits<float>::quiet_NaN()));
                            },
                            "blk.0.attn_q.weight: row 3 holds a number that is NaN or infinite"},
                    BadFile{"Infinity",
                            [](GgufWriter& f) {
                              f.tensors[1].data.replace(28, 4, Float(-std::numeric_limits<float>::infinity()));
                            },
                            "output_norm.weight: row 0 holds a number that is NaN or infinite"},
                    BadFile{"Unknown",
                            [](GgufWriter& f) {
                              f.tensors.push_back({"blk.0.attn_q.bias", {8}, 0, std::string(32, '\0')});
                              f.Place();
                            },
                            "blk.0.attn_q.bias: the architecture has no place for this tensor"},
                    BadFile{"LayerPastTheCount",
                            [](GgufWriter& f) {
                              f.tensors.push_back({"blk.1.attn_norm.weight", {8}, 0, std::string(32, '\0')});
                              f.Place();
                            },
                            "blk.1.attn_norm.weight: the architecture has no place"}),
    [](const auto& info) { return info.param.name; });

// Cut after every byte of the header and through the data: refused, and never read past the end.
TEST(GgufTruncationTest, EveryPrefixIsRefused) {
  const std::string whole = TinyLlama().Bytes();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    // A copy of exactly that size, so that a sanitizer sees any read past it.
    const std::vector<std::byte> bytes(reinterpret_cast<const std::byte*>(whole.data()),
                                       reinterpret_cast<const std::byte*>(whole.data()) + size);
    const std::clock_t begin = std::clock();
    const absl::Status status = GgufFile::Parse(bytes, "cut").status();
    ASSERT_LT(static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC, test::kRefusalSeconds) << size;
    ASSERT_TRUE(absl::IsInvalidArgument(status)) << size << ": " << status;
    ASSERT_THAT(std::string(status.message()), StartsWith("cut: ")) << size;
  }
}

// Any one byte changed: parsed or refused, but nothing crashes.
TEST(GgufMutationTest, AnyByteMayChange) {
  const std::string whole = TinyLlama().Bytes();
  int refused = 0;
  for (std::size_t i = 0; i < whole.size(); ++i) {
    for (const char change : {'\x01', '\x80', '\xff'}) {
      std::string spoiled = whole;
      spoiled[i] = static_cast<char>(spoiled[i] ^ change);
      const auto* data = reinterpret_cast<const std::byte*>(spoiled.data());
      refused += !GgufFile::Parse({data, spoiled.size()}, "changed").ok();
    }
  }
  EXPECT_GT(refused, 1000);
}

TEST(GgufTest, MissingFileAndDirectory) {
  EXPECT_EQ(LoadModel("/nonexistent/model.gguf").status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(LoadModel("/dev/null").status().message()), HasSubstr("/dev/null: not a regular file"));
  const TempFile empty("");
  EXPECT_THAT(std::string(LoadModel(empty.path()).status().message()), HasSubstr("the file is empty"));
}

}  // namespace
}  // namespace megakernel
