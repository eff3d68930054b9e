#include "engine/model/safetensors_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/engine/model/refusal.h"
#include "tests/engine/model/safetensors_writer.h"
#include "tests/support/temp_checkpoint.h"

namespace megakernel::test {
namespace {

TEST(SafetensorsFileTest, ReadsTypesShapesAndPlaces) {
  const TempDirectory directory;
  const std::string path = directory.path() + "/a.safetensors";
  WriteFile(path, SafetensorsBytes(
                      R"({"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[8,20]},)"
                      R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                      R"("c":{"dtype":"F16","shape":[1,1,1,1],"data_offsets":[20,22]}}   )",
                      22));
  const auto file = SafetensorsFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_EQ(file->tensors().size(), 3u);
  EXPECT_EQ(file->tensors()[0].name, "a");
  EXPECT_EQ(file->tensors()[1].type, TensorType::kBF16);
  EXPECT_THAT(file->tensors()[1].shape, testing::ElementsAre(2, 3));
  EXPECT_EQ(file->tensors()[1].bytes.size(), 12u);
  EXPECT_EQ(file->tensors()[2].bytes.data() + 2, file->bytes().data() + file->bytes().size());
}

struct BadFile {
  const char* name;
  std::string bytes;
  const char* message;
};

std::string OneTensor(const std::string& entry, std::size_t data = 8) {
  return SafetensorsBytes("{\"t\":" + entry + "}", data);
}

std::string Length(std::uint64_t length, std::size_t rest) {
  std::string bytes = SafetensorsBytes(std::string(rest, ' '), 0);
  std::memcpy(bytes.data(), &length, sizeof(length));
  return bytes;
}

std::vector<BadFile> BadFiles() {
  const std::string good = R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  std::vector<BadFile> files = {
      {"empty", "", "empty"},
      {"seven_bytes", "1234567", "7 bytes"},
      {"length_beyond_file", Length(100, 50), "cut short"},
      {"length_beyond_limit", Length(std::uint64_t{1} << 25, 50), "limit is 16777216"},
      {"length_all_ones", Length(~std::uint64_t{0}, 50), "limit is 16777216"},
      {"not_json", SafetensorsBytes("{\"t\": ", 8), "not valid JSON"},
      {"list", SafetensorsBytes("[1, 2]", 8), "not an object"},
      {"two_objects", SafetensorsBytes("{} {}", 0), "not valid JSON"},
      {"bad_utf8", SafetensorsBytes("{\"\xff\xfe\": 1}", 0), "not valid JSON"},
      {"deep", SafetensorsBytes(std::string(100000, '['), 0), "deeper than the limit of 32"},
      {"deep_objects", SafetensorsBytes("{\"a\":{\"a\":" + std::string(40, '[') + std::string(40, ']') + "}}", 0),
       "deeper"},
      {"duplicate", SafetensorsBytes("{\"t\":" + good + ",\"t\":" + good + "}", 8), "twice"},
      {"duplicate_field", OneTensor(R"({"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]})"), "twice"},
      {"entry_number", OneTensor("7"), "not an object"},
      {"no_dtype", OneTensor(R"({"shape":[2],"data_offsets":[0,8]})"), "no dtype"},
      {"dtype_number", OneTensor(R"({"dtype":4,"shape":[2],"data_offsets":[0,8]})"), "no dtype"},
      {"dtype_i64", OneTensor(R"({"dtype":"I64","shape":[1],"data_offsets":[0,8]})"), "I64"},
      {"dtype_f8", OneTensor(R"({"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]})"), "F8_E4M3"},
      {"no_shape", OneTensor(R"({"dtype":"F32","data_offsets":[0,8]})"), "shape"},
      {"shape_empty", OneTensor(R"({"dtype":"F32","shape":[],"data_offsets":[0,4]})", 4), "1 to 4 dimensions"},
      {"shape_five", OneTensor(R"({"dtype":"F32","shape":[2,1,1,1,1],"data_offsets":[0,8]})"), "1 to 4 dimensions"},
      {"shape_zero", OneTensor(R"({"dtype":"F32","shape":[0,2],"data_offsets":[0,0]})", 0), "dimension"},
      {"shape_negative", OneTensor(R"({"dtype":"F32","shape":[-2],"data_offsets":[0,8]})"), "dimension"},
      {"shape_fraction", OneTensor(R"({"dtype":"F32","shape":[2.0],"data_offsets":[0,8]})"), "dimension"},
      {"shape_text", OneTensor(R"({"dtype":"F32","shape":["2"],"data_offsets":[0,8]})"), "dimension"},
      {"shape_overflow", OneTensor(R"({"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,8]})"),
       "dimension"},
      {"shape_huge", OneTensor(R"({"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,8]})"), "dimension"},
      {"shape_too_small", OneTensor(R"({"dtype":"F32","shape":[1],"data_offsets":[0,8]})"), "its shape needs 4"},
      {"no_offsets", OneTensor(R"({"dtype":"F32","shape":[2]})"), "data_offsets"},
      {"offsets_one", OneTensor(R"({"dtype":"F32","shape":[2],"data_offsets":[0]})"), "data_offsets"},
      {"offsets_reversed", OneTensor(R"({"dtype":"F32","shape":[2],"data_offsets":[8,0]})"), "outside"},
      {"offsets_negative", OneTensor(R"({"dtype":"F32","shape":[2],"data_offsets":[-8,0]})"), "outside"},
      {"offsets_beyond", OneTensor(R"({"dtype":"F32","shape":[2],"data_offsets":[4,12]})"), "outside"},
      {"offsets_huge",
       OneTensor(R"({"dtype":"F32","shape":[2],"data_offsets":[18446744073709551608,18446744073709551615]})"),
       "outside"},
      {"gap_before", OneTensor(R"({"dtype":"F32","shape":[1],"data_offsets":[4,8]})"), "belong to no tensor"},
      {"gap_after", OneTensor(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})"), "last 4 bytes"},
      {"overlap", SafetensorsBytes("{\"t\":" + good + R"(,"u":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", 12),
       "overlaps"},
      {"same_place", SafetensorsBytes("{\"t\":" + good + ",\"u\":" + good + "}", 8), "overlaps"},
      {"long_name", SafetensorsBytes("{\"" + std::string(600, 'n') + "\":" + good + "}", 8), "longer than 512"},
      {"no_tensor_but_data", SafetensorsBytes("{}", 8), "last 8 bytes"},
  };
  std::string many = "{";
  for (int i = 0; i < 65537; ++i) many += (i == 0 ? "\"" : ",\"") + std::to_string(i) + "\":0";
  files.push_back({"too_many", SafetensorsBytes(many + "}", 0), "limit is 65536"});
  return files;
}

class BadSafetensorsTest : public testing::TestWithParam<BadFile> {};

TEST_P(BadSafetensorsTest, IsRefusedNamingFileAndFault) {
  const TempDirectory directory;
  const std::string path = directory.path() + "/bad.safetensors";
  WriteFile(path, GetParam().bytes);
  ExpectRefusal([&] { return SafetensorsFile::Open(path); }, path, GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(Files, BadSafetensorsTest, testing::ValuesIn(BadFiles()),
                         [](const auto& info) { return info.param.name; });

TEST(SafetensorsFileTest, EveryTruncationIsRefused) {
  const TempDirectory directory;
  const std::string path = directory.path() + "/cut.safetensors";
  const std::string whole = OneTensor(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})");
  WriteFile(path, whole);
  ASSERT_TRUE(SafetensorsFile::Open(path).ok());
  for (std::size_t size = 0; size < whole.size(); ++size) {
    WriteFile(path, whole.substr(0, size));
    EXPECT_FALSE(SafetensorsFile::Open(path).ok()) << size;
  }
}

TEST(SafetensorsFileTest, MissingFileIsNotFound) {
  EXPECT_TRUE(absl::IsNotFound(SafetensorsFile::Open("/nonexistent/x.safetensors").status()));
}

}  // namespace
}  // namespace megakernel::test
