// The filters, tests and methods that templates may use.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "engine/text/jinja/value.h"

namespace megakernel::jinja {

// What a builtin may do beyond computing. Owned by the evaluator.
class Context {
 public:
  virtual ~Context() = default;
  // Ends the rendering with this error; the line is added. The first call counts. Returns undefined.
  virtual Value Fail(std::string problem) = 0;
  // Counts work; false, after a Fail, when the rendering has done too much.
  virtual bool Charge(std::int64_t work) = 0;

  // Values of bounded size: they charge for themselves and are undefined, after a Fail, when too large.
  Value String(std::string text);
  Value MakeList(List items);
  Value MakeDict(Dict entries);

 private:
  Value Checked(Value value);
};

// `args` has one value for each parameter; those not given are undefined.
using Args = std::span<const Value>;

inline constexpr int kMaxParameters = 3;

struct Signature {
  std::string_view name;
  std::string_view parameters[kMaxParameters] = {};  // in order; empty = there is none
  int required = 0;
};

struct Filter {
  Signature signature;
  Value (*apply)(Context& context, const Value& input, Args args);
};

struct Test {
  Signature signature;
  bool (*holds)(Context& context, const Value& input, Args args);
};

// Called on a value: text.strip(), dictionary.items().
struct Method {
  Signature signature;
  Value (*call)(Context& context, const Value& self, Args args);
};

// Null when there is none of that name.
const Filter* FindFilter(std::string_view name);
// Those of selection_filters.cc, which FindFilter knows too.
const Filter* FindSelectionFilter(std::string_view name);
const Test* FindTest(std::string_view name);
const Method* FindMethod(std::string_view name);

// -1, 0, 1 for numbers and for strings; a Fail for anything else.
int Compare(Context& context, const Value& a, const Value& b);
// a == b, charged.
bool Equal(Context& context, const Value& a, const Value& b);
// Whether `container` (string, list, dictionary) holds `item`.
bool Contains(Context& context, const Value& container, const Value& item);

}  // namespace megakernel::jinja
