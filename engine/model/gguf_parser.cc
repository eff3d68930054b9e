#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/model/byte_cursor.h"
#include "engine/model/gguf_file.h"

namespace megakernel {
namespace {

constexpr std::uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr std::uint32_t kOldestVersion = 2;
constexpr std::uint32_t kNewestVersion = 3;
constexpr std::size_t kMaxKeyBytes = 65535;         // of the specification
constexpr std::size_t kMaxTensorNameBytes = 64;     // of the specification
constexpr std::uint32_t kMaxRank = 4;               // of the specification
constexpr std::uint64_t kMaxElements = 1ull << 48;  // of one tensor; keeps every product below 2^63
constexpr std::int64_t kMinAlignment = 8;           // of the specification
constexpr std::int64_t kDefaultAlignment = 32;      // of the specification
constexpr std::int64_t kMaxAlignment = 65536;       // none larger is in use
// The smallest encoding of an entry: key length, type and one byte; name length, rank, one size, type and offset.
constexpr std::uint64_t kMinKeyEntryBytes = 8 + 4 + 1;
constexpr std::uint64_t kMinTensorEntryBytes = 8 + 4 + 8 + 4 + 8;

// Bytes of one element; 0 for strings and arrays, -1 for a type that does not exist.
int ScalarBytes(GgufType type) {
  switch (type) {
    case GgufType::kUint8:
    case GgufType::kInt8:
    case GgufType::kBool:
      return 1;
    case GgufType::kUint16:
    case GgufType::kInt16:
      return 2;
    case GgufType::kUint32:
    case GgufType::kInt32:
    case GgufType::kFloat32:
      return 4;
    case GgufType::kUint64:
    case GgufType::kInt64:
    case GgufType::kFloat64:
      return 8;
    case GgufType::kString:
    case GgufType::kArray:
      return 0;
  }
  return -1;
}

struct FileTensorType {
  std::uint32_t id;
  TensorType type;
};

// ggml's numbers of the types that TensorType knows.
constexpr FileTensorType kFileTensorTypes[] = {
    {0, TensorType::kF32},   {1, TensorType::kF16},   {2, TensorType::kQ4_0},    {3, TensorType::kQ4_1},
    {6, TensorType::kQ5_0},  {7, TensorType::kQ5_1},  {8, TensorType::kQ8_0},    {12, TensorType::kQ4_K},
    {13, TensorType::kQ5_K}, {14, TensorType::kQ6_K}, {20, TensorType::kIQ4_NL}, {30, TensorType::kBF16},
};

}  // namespace

// One pass over the file. Lives for one call of GgufFile::Parse.
class GgufParser {
 public:
  GgufParser(std::span<const std::byte> bytes, std::string name) : bytes_(bytes), cursor_(bytes) {
    file_.name_ = std::move(name);
  }

  absl::StatusOr<GgufFile> Run() {
    std::uint64_t num_tensors = 0;
    std::uint64_t num_keys = 0;
    if (absl::Status status = Header(num_tensors, num_keys); !status.ok()) return status;
    for (std::uint64_t i = 0; i < num_keys; ++i) {
      if (absl::Status status = KeyValue(i); !status.ok()) return status;
    }
    std::vector<std::uint64_t> offsets;
    for (std::uint64_t i = 0; i < num_tensors; ++i) {
      if (absl::Status status = TensorEntry(i, offsets); !status.ok()) return status;
    }
    if (absl::Status status = PlaceTensors(offsets); !status.ok()) return status;
    return std::move(file_);
  }

 private:
  absl::Status Truncated(std::string_view subject) const {
    return file_.Error(subject, absl::StrCat("the file ends at byte ", bytes_.size(), ", inside this entry"));
  }

  absl::Status Header(std::uint64_t& num_tensors, std::uint64_t& num_keys) {
    std::uint32_t magic = 0;
    std::uint32_t version = 0;
    if (!cursor_.Read(magic) || magic != kMagic)
      return file_.Error("magic", "not a GGUF file: it does not start with GGUF");
    if (!cursor_.Read(version)) return Truncated("version");
    if (version < kOldestVersion || version > kNewestVersion) {
      const bool swapped = (version & 0xffffu) == 0;
      return file_.Error("version", absl::StrCat(version, " is not supported (", kOldestVersion, " to ", kNewestVersion,
                                                 ")", swapped ? "; the file looks big-endian" : ""));
    }
    if (!cursor_.Read(num_tensors)) return Truncated("tensor count");
    if (!cursor_.Read(num_keys)) return Truncated("key count");
    const std::uint64_t left = cursor_.remaining();
    if (num_keys > left / kMinKeyEntryBytes) {
      return file_.Error("key count", absl::StrCat(num_keys, " keys cannot fit in the ", left, " bytes that follow"));
    }
    if (num_tensors > left / kMinTensorEntryBytes) {
      return file_.Error("tensor count",
                         absl::StrCat(num_tensors, " tensors cannot fit in the ", left, " bytes that follow"));
    }
    return absl::OkStatus();
  }

  absl::Status KeyValue(std::uint64_t index) {
    const std::string place = absl::StrCat("key number ", index);
    std::string_view key;
    if (!cursor_.ReadString(key)) return Truncated(place);
    if (key.empty() || key.size() > kMaxKeyBytes) {
      return file_.Error(place, absl::StrCat("its name has ", key.size(), " bytes (1 to ", kMaxKeyBytes, ")"));
    }
    std::uint32_t type = 0;
    if (!cursor_.Read(type)) return Truncated(key);
    GgufValue value;
    value.type = static_cast<GgufType>(type);
    if (absl::Status status = Value(key, value); !status.ok()) return status;
    if (!file_.values_.emplace(key, value).second) return file_.Error(key, "the key appears twice");
    file_.keys_.push_back(key);
    return absl::OkStatus();
  }

  absl::Status Value(std::string_view key, GgufValue& value) {
    if (value.type == GgufType::kArray) return Array(key, value);
    const int size = ScalarBytes(value.type);
    if (size < 0) return UnknownType(key, value.type);
    return Elements(key, value.type, 1, value);
  }

  absl::Status Array(std::string_view key, GgufValue& value) {
    std::uint32_t element = 0;
    if (!cursor_.Read(element) || !cursor_.Read(value.count)) return Truncated(key);
    value.element = static_cast<GgufType>(element);
    const int size = ScalarBytes(value.element);
    if (size < 0) return UnknownType(key, value.element);
    if (value.element == GgufType::kArray) return file_.Error(key, "arrays of arrays are not supported");
    const std::uint64_t smallest = size == 0 ? sizeof(std::uint64_t) : static_cast<std::uint64_t>(size);
    if (value.count > cursor_.remaining() / smallest) {
      return file_.Error(key, absl::StrCat("an array of ", value.count, " elements cannot fit in the ",
                                           cursor_.remaining(), " bytes that follow"));
    }
    return Elements(key, value.element, value.count, value);
  }

  // Walks over `count` scalars or strings and notes where they lie.
  absl::Status Elements(std::string_view key, GgufType type, std::uint64_t count, GgufValue& value) {
    const std::size_t begin = cursor_.position();
    if (type == GgufType::kString) {
      std::string_view text;
      for (std::uint64_t i = 0; i < count; ++i) {
        if (!cursor_.ReadString(text)) return Truncated(key);
      }
    } else if (!cursor_.Skip(count * static_cast<std::uint64_t>(ScalarBytes(type)))) {
      return Truncated(key);
    }
    value.bytes = bytes_.subspan(begin, cursor_.position() - begin);
    const auto is_bool = [](std::byte b) { return b <= std::byte{1}; };
    if (type == GgufType::kBool && !std::all_of(value.bytes.begin(), value.bytes.end(), is_bool)) {
      return file_.Error(key, "a truth value that is neither 0 nor 1");
    }
    return absl::OkStatus();
  }

  absl::Status UnknownType(std::string_view key, GgufType type) {
    return file_.Error(key, absl::StrCat("value type ", static_cast<std::uint32_t>(type), " does not exist (0 to ",
                                         static_cast<std::uint32_t>(GgufType::kFloat64), ")"));
  }

  absl::Status TensorEntry(std::uint64_t index, std::vector<std::uint64_t>& offsets) {
    const std::string place = absl::StrCat("tensor number ", index);
    std::string_view name;
    if (!cursor_.ReadString(name)) return Truncated(place);
    if (name.empty() || name.size() > kMaxTensorNameBytes) {
      return file_.Error(place, absl::StrCat("its name has ", name.size(), " bytes (1 to ", kMaxTensorNameBytes, ")"));
    }
    TensorView view;
    view.name = std::string(name);
    if (absl::Status status = Shape(view); !status.ok()) return status;
    std::uint32_t type = 0;
    std::uint64_t offset = 0;
    if (!cursor_.Read(type) || !cursor_.Read(offset)) return Truncated(name);
    const auto* known = std::find_if(std::begin(kFileTensorTypes), std::end(kFileTensorTypes),
                                     [type](const FileTensorType& entry) { return entry.id == type; });
    if (known == std::end(kFileTensorTypes)) {
      return file_.Error(name, absl::StrCat("tensor type number ", type, " is not supported"));
    }
    view.type = known->type;
    if (view.cols % BlockElements(view.type) != 0) {
      return file_.Error(name, absl::StrCat("rows of ", view.cols, " elements are not whole ",
                                            TensorTypeName(view.type), " blocks of ", BlockElements(view.type)));
    }
    if (!file_.tensor_index_.emplace(name, file_.tensors_.size()).second) {
      return file_.Error(name, "the tensor appears twice");
    }
    file_.tensors_.push_back(std::move(view));
    offsets.push_back(offset);
    return absl::OkStatus();
  }

  absl::Status Shape(TensorView& view) {
    std::uint32_t rank = 0;
    if (!cursor_.Read(rank)) return Truncated(view.name);
    if (rank < 1 || rank > kMaxRank) {
      return file_.Error(view.name, absl::StrCat("rank ", rank, " is not in 1 to ", kMaxRank));
    }
    std::uint64_t elements = 1;
    view.rows = 1;
    view.cols = 1;
    for (std::uint32_t axis = 0; axis < rank; ++axis) {
      std::uint64_t size = 0;
      if (!cursor_.Read(size)) return Truncated(view.name);
      if (size == 0 || size > kMaxElements / elements) {
        return file_.Error(view.name, absl::StrCat("size ", size, " of axis ", axis, " is 0 or makes more than ",
                                                   kMaxElements, " elements"));
      }
      elements *= size;
      (axis == 0 ? view.cols : view.rows) *= static_cast<std::int64_t>(size);
    }
    return absl::OkStatus();
  }

  // Offsets count from the first aligned byte after the tensor entries.
  absl::Status PlaceTensors(const std::vector<std::uint64_t>& offsets) {
    std::int64_t alignment = kDefaultAlignment;
    if (file_.Has("general.alignment")) {
      absl::StatusOr<std::int64_t> value = file_.GetInteger("general.alignment", kMinAlignment, kMaxAlignment);
      if (!value.ok()) return value.status();
      alignment = *value;
      if ((alignment & (alignment - 1)) != 0) {
        return file_.Error("general.alignment", absl::StrCat(alignment, " is not a power of two"));
      }
    }
    const auto step = static_cast<std::uint64_t>(alignment);
    const std::uint64_t begin = (cursor_.position() + step - 1) / step * step;
    const std::uint64_t size = begin < bytes_.size() ? bytes_.size() - begin : 0;
    for (std::size_t i = 0; i < offsets.size(); ++i) {
      TensorView& view = file_.tensors_[i];
      const auto length = static_cast<std::uint64_t>(view.Bytes());
      if (offsets[i] % step != 0) {
        return file_.Error(view.name, absl::StrCat("offset ", offsets[i], " is not a multiple of ", step));
      }
      if (offsets[i] > size || length > size - offsets[i]) {
        return file_.Error(view.name, absl::StrCat("its ", length, " bytes at offset ", offsets[i], " pass the ", size,
                                                   " bytes of tensor data in the file"));
      }
      view.data = bytes_.data() + begin + offsets[i];
    }
    return CheckOverlaps();
  }

  absl::Status CheckOverlaps() {
    std::vector<const TensorView*> order;
    for (const TensorView& view : file_.tensors_) order.push_back(&view);
    std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) { return a->data < b->data; });
    for (std::size_t i = 1; i < order.size(); ++i) {
      if (order[i - 1]->data + order[i - 1]->Bytes() > order[i]->data) {
        return file_.Error(order[i]->name, absl::StrCat("its bytes overlap those of ", order[i - 1]->name));
      }
    }
    return absl::OkStatus();
  }

  std::span<const std::byte> bytes_;
  ByteCursor cursor_;
  GgufFile file_;
};

absl::StatusOr<GgufFile> GgufFile::Parse(std::span<const std::byte> bytes, std::string name) {
  return GgufParser(bytes, std::move(name)).Run();
}

}  // namespace megakernel
