// Models split over several GGUF files, and the tensor of rotary divisors.
#include "engine/model/gguf_parts.h"

#include <gtest/gtest.h>

#include "engine/model/model.h"
#include "tests/engine/model/gguf_writer.h"
#include "tests/engine/model/refusal.h"
#include "tests/engine/model/safetensors_writer.h"
#include "tests/engine/model/temp_file.h"
#include "tests/support/temp_checkpoint.h"

namespace megakernel {
namespace {

class GgufPartsTest : public testing::Test {
 protected:
  // TinyLlama as three parts: all keys and three tensors, four tensors, four tensors.
  GgufPartsTest() : parts_(3) {
    GgufWriter whole = TinyLlama();
    parts_[0].keys = whole.keys;
    for (std::size_t i = 0; i < whole.tensors.size(); ++i) parts_[(i + 1) / 4].tensors.push_back(whole.tensors[i]);
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      parts_[i].Scalar<std::uint16_t>("split.no", 2, static_cast<std::uint16_t>(i));
      parts_[i].Scalar<std::uint16_t>("split.count", 2, 3);
      parts_[i].Scalar<std::int32_t>("split.tensors.count", 5, 11);
    }
  }

  std::string Path(std::size_t i) const {
    return folder_.path() + "/m-0000" + std::to_string(i + 1) + "-of-00003.gguf";
  }
  absl::StatusOr<std::unique_ptr<Model>> Load(std::size_t opened = 0) {
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      parts_[i].Place();
      test::WriteFile(Path(i), parts_[i].Bytes());
    }
    return LoadModel(Path(opened));
  }
  // What is wrong with the parts as they are now.
  void ExpectRefused(const std::string& fault, std::size_t opened = 0) {
    test::ExpectRefusal([&] { return Load(opened); }, folder_.path(), fault);
  }

  std::vector<GgufWriter> parts_;
  const test::TempDirectory folder_;
};

TEST_F(GgufPartsTest, AreOneModel) {
  const auto model = Load();
  ASSERT_TRUE(model.ok()) << model.status();
  const TempFile single(TinyLlama().Bytes());
  const auto whole = LoadModel(single.path());
  ASSERT_TRUE(whole.ok());
  EXPECT_EQ((*model)->weight_bytes(), (*whole)->weight_bytes());
  std::vector<float> a(12), b(12);
  DequantizeRow((*model)->weights().layers[0].w_down, 5, a.data());
  DequantizeRow((*whole)->weights().layers[0].w_down, 5, b.data());
  EXPECT_EQ(a, b);
  const std::string identity = (*model)->identity();
  parts_[2].tensors.back().data[3] ^= 1;
  EXPECT_NE((*Load())->identity(), identity) << "the last part counts";
}

TEST_F(GgufPartsTest, RefusalsNameThePart) {
  ExpectRefused("split.no: this is part 2 of 3; open the first one", 1);
  parts_[1].Scalar<std::uint16_t>("split.no", 2, 2);
  ExpectRefused("m-00002-of-00003.gguf: split.no: the file says part 3 of 3, its name says part 2");
  parts_[1].Scalar<std::uint16_t>("split.no", 2, 1);
  parts_[1].Scalar<std::uint16_t>("split.count", 2, 4);
  ExpectRefused("part 2 of 4");
  parts_[1].Remove("split.count");
  ExpectRefused("m-00002-of-00003.gguf: split.count: the key is missing");
  parts_[1].Scalar<std::uint16_t>("split.count", 2, 3);
  parts_[1].magic = "GGUG";
  ExpectRefused("m-00002-of-00003.gguf: magic");
  parts_[1].magic = "GGUF";
  parts_[2].tensors.push_back(parts_[1].tensors.front());
  ExpectRefused("the tensor is also in");
  parts_[2].tensors.pop_back();
  parts_[2].tensors.pop_back();
  ExpectRefused("split.tensors.count: 11 tensors, but the parts hold 10");
}

TEST_F(GgufPartsTest, MissingPartAndWrongName) {
  ASSERT_TRUE(Load().ok());
  std::filesystem::remove(Path(2));
  test::ExpectRefusal([&] { return LoadModel(Path(0)); }, Path(2), "cannot open");
  const std::string other = folder_.path() + "/model.gguf";
  std::filesystem::rename(Path(0), other);
  test::ExpectRefusal([&] { return LoadModel(other); }, other, "a name that ends in -00001-of-00003.gguf");
}

// Two frequencies, 1 and 10^-4.5, of which Llama 3 scaling divides the second.
GgufWriter WithDivisors(float first, float second) {
  GgufWriter file = TinyLlama();
  file.Float32("llama.rope.freq_base", 1e9f);
  file.tensors.push_back({"rope_freqs.weight", {2}, 0, ByteWriter().Put(first).Put(second).bytes()});
  file.Place();
  return file;
}

TEST(RopeDivisorsTest, AreLlama3Scaling) {
  const TempFile file(WithDivisors(1.0f, 8.0f).Bytes());
  const auto model = LoadModel(file.path());
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ((*model)->config().rope_scaling, RopeScaling::kLlama3);
  EXPECT_EQ((*model)->config().rope_factor, 8.0);
  EXPECT_EQ((*model)->config().rope_original_context, 8192);
  const TempFile none(WithDivisors(1.0f, 1.0f).Bytes());
  EXPECT_EQ((*LoadModel(none.path()))->config().rope_scaling, RopeScaling::kNone);
}

TEST(RopeDivisorsTest, OthersAreRefused) {
  const auto expect_refused = [](const GgufWriter& file, const char* fault) {
    const TempFile temp(file.Bytes());
    test::ExpectRefusal([&] { return LoadModel(temp.path()); }, temp.path(), fault);
  };
  expect_refused(WithDivisors(2.0f, 8.0f), "rope_freqs.weight: number 0 is 2; Llama 3 scaling by 8 asks");
  expect_refused(WithDivisors(1.0f, 0.0f), "rope_freqs.weight: number 1 is 0");
  expect_refused(WithDivisors(NAN, 8.0f), "rope_freqs.weight");
  expect_refused(WithDivisors(INFINITY, INFINITY), "rope_freqs.weight");
  GgufWriter longer = WithDivisors(1.0f, 8.0f);
  longer.tensors.back().shape = {1};
  expect_refused(longer, "rope_freqs.weight: must be 2 numbers of type F32");
  GgufWriter both = WithDivisors(1.0f, 8.0f);
  both.Text("llama.rope.scaling.type", "linear");
  both.Float32("llama.rope.scaling.factor", 2.0f);
  expect_refused(both, "together with rope.scaling.type");
}

}  // namespace
}  // namespace megakernel
