// Builds GGUF files in memory, good ones and, by changing fields before Bytes(), bad ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace megakernel {

// Appends little-endian values.
class ByteWriter {
 public:
  template <class T>
  ByteWriter& Put(T value) {
    const auto* data = reinterpret_cast<const char*>(&value);
    bytes_.append(data, sizeof(value));
    return *this;
  }
  ByteWriter& PutString(std::string_view text) {
    Put<std::uint64_t>(text.size());
    bytes_.append(text);
    return *this;
  }
  ByteWriter& PutRaw(std::string_view text) {
    bytes_.append(text);
    return *this;
  }
  std::string& bytes() { return bytes_; }

 private:
  std::string bytes_;
};

struct GgufKey {
  std::string name;
  std::uint32_t type = 0;
  std::string payload;
};

struct GgufTensor {
  std::string name;
  std::vector<std::uint64_t> shape;  // as in the file: columns first
  std::uint32_t type = 0;
  std::string data;
  std::uint64_t offset = 0;  // set by Place
};

// Every field is public so that a test can spoil it.
struct GgufWriter {
  std::string magic = "GGUF";
  std::uint32_t version = 3;
  std::uint64_t extra_keys = 0;     // added to the stated count
  std::uint64_t extra_tensors = 0;  // added to the stated count
  std::uint64_t alignment = 32;
  std::vector<GgufKey> keys;
  std::vector<GgufTensor> tensors;

  template <class T>
  void Scalar(const std::string& name, std::uint32_t type, T value) {
    Set({name, type, ByteWriter().Put(value).bytes()});
  }
  void Uint32(const std::string& name, std::uint32_t value) { Scalar(name, 4, value); }
  void Float32(const std::string& name, float value) { Scalar(name, 6, value); }
  void Bool(const std::string& name, bool value) { Scalar<std::uint8_t>(name, 7, value); }
  void Text(const std::string& name, std::string_view value) { Set({name, 8, ByteWriter().PutString(value).bytes()}); }
  void Texts(const std::string& name, const std::vector<std::string>& values) {
    ByteWriter writer;
    writer.Put<std::uint32_t>(8).Put<std::uint64_t>(values.size());
    for (const std::string& value : values) writer.PutString(value);
    Set({name, 9, writer.bytes()});
  }
  void Int32s(const std::string& name, const std::vector<std::int32_t>& values) {
    ByteWriter writer;
    writer.Put<std::uint32_t>(5).Put<std::uint64_t>(values.size());
    for (const std::int32_t value : values) writer.Put(value);
    Set({name, 9, writer.bytes()});
  }

  // Replaces a key of the same name.
  void Set(GgufKey key) {
    for (GgufKey& old : keys) {
      if (old.name == key.name) {
        old = std::move(key);
        return;
      }
    }
    keys.push_back(std::move(key));
  }
  void Remove(std::string_view name) {
    std::erase_if(keys, [name](const GgufKey& key) { return key.name == name; });
    std::erase_if(tensors, [name](const GgufTensor& tensor) { return tensor.name == name; });
  }
  GgufTensor& Tensor(std::string_view name) {
    for (GgufTensor& tensor : tensors) {
      if (tensor.name == name) return tensor;
    }
    std::abort();  // a test asks for a tensor that it did not add
  }

  // Gives every tensor its offset, one after the other.
  void Place() {
    std::uint64_t offset = 0;
    for (GgufTensor& tensor : tensors) {
      tensor.offset = offset;
      offset += (tensor.data.size() + alignment - 1) / alignment * alignment;
    }
  }

  // The file; call Place before, then spoil offsets if wanted.
  std::string Bytes() const {
    ByteWriter writer;
    writer.PutRaw(magic).Put(version).Put<std::uint64_t>(tensors.size() + extra_tensors);
    writer.Put<std::uint64_t>(keys.size() + extra_keys);
    for (const GgufKey& key : keys) writer.PutString(key.name).Put(key.type).PutRaw(key.payload);
    for (const GgufTensor& tensor : tensors) {
      writer.PutString(tensor.name).Put(static_cast<std::uint32_t>(tensor.shape.size()));
      for (const std::uint64_t size : tensor.shape) writer.Put(size);
      writer.Put(tensor.type).Put(tensor.offset);
    }
    std::string bytes = std::move(writer.bytes());
    const auto pad = [&bytes, this] { bytes.resize((bytes.size() + alignment - 1) / alignment * alignment); };
    for (const GgufTensor& tensor : tensors) {
      pad();
      bytes += tensor.data;
    }
    pad();
    return bytes;
  }
};

// A whole model of architecture llama: 1 layer, hidden 8, 2 query and 1 key head of 4, ffn 12, 5 tokens, all F32.
// Element i of the n-th tensor is n + i / 1000.
inline GgufWriter TinyLlama() {
  GgufWriter file;
  file.Text("general.architecture", "llama");
  file.Text("general.name", "tiny");
  file.Uint32("llama.block_count", 1);
  file.Uint32("llama.context_length", 16);
  file.Uint32("llama.embedding_length", 8);
  file.Uint32("llama.feed_forward_length", 12);
  file.Uint32("llama.attention.head_count", 2);
  file.Uint32("llama.attention.head_count_kv", 1);
  file.Float32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  file.Float32("llama.rope.freq_base", 10000.0f);
  file.Uint32("llama.rope.dimension_count", 4);
  file.Text("tokenizer.ggml.model", "gpt2");
  file.Text("tokenizer.ggml.pre", "gpt-2");
  file.Texts("tokenizer.ggml.tokens", {"a", "b", "ab", "<s>", "</s>"});
  file.Int32s("tokenizer.ggml.token_type", {1, 1, 1, 3, 3});
  file.Texts("tokenizer.ggml.merges", {"a b"});
  file.Uint32("tokenizer.ggml.bos_token_id", 3);
  file.Uint32("tokenizer.ggml.eos_token_id", 4);
  file.Text("tokenizer.chat_template", "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}");
  const auto add = [&file](const std::string& name, std::vector<std::uint64_t> shape) {
    std::uint64_t elements = 1;
    for (const std::uint64_t size : shape) elements *= size;
    ByteWriter data;
    for (std::uint64_t i = 0; i < elements; ++i) {
      data.Put(static_cast<float>(file.tensors.size()) + static_cast<float>(i) / 1000.0f);
    }
    file.tensors.push_back({name, std::move(shape), 0, data.bytes()});
  };
  add("token_embd.weight", {8, 5});
  add("output_norm.weight", {8});
  add("blk.0.attn_norm.weight", {8});
  add("blk.0.attn_q.weight", {8, 8});
  add("blk.0.attn_k.weight", {8, 4});
  add("blk.0.attn_v.weight", {8, 4});
  add("blk.0.attn_output.weight", {8, 8});
  add("blk.0.ffn_norm.weight", {8});
  add("blk.0.ffn_gate.weight", {8, 12});
  add("blk.0.ffn_up.weight", {8, 12});
  add("blk.0.ffn_down.weight", {12, 8});
  file.Place();
  return file;
}

}  // namespace megakernel
