#include "engine/text/nfc.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "engine/text/nfc_tables.h"
#include "engine/text/utf8.h"

namespace megakernel {
namespace {

// Hangul syllables are made of a leading consonant, a vowel and perhaps a trailing consonant.
constexpr std::uint32_t kLeads = 0x1100, kVowels = 0x1161, kTrails = 0x11a7, kSyllables = 0xac00;
constexpr std::uint32_t kNumLeads = 19, kNumVowels = 21, kNumTrails = 28;  // no trailing consonant counts as one

constexpr std::uint32_t kFirstInteresting = 0x300;  // no character below combines, or is replaced
constexpr std::uint32_t kTableEnd = 0x30000;        // nor does any from here on
constexpr std::uint32_t kNothing = 0xffffffff;

std::uint64_t Pair(std::uint32_t first, std::uint32_t second) {
  return std::uint64_t{first} << 32 | second;
}

// The generated tables, indexed.
class Tables {
 public:
  static const Tables& Get() {
    static const Tables tables;
    return tables;
  }

  std::uint8_t Class(std::uint32_t c) const { return c < kTableEnd ? classes_[c] : 0; }
  // Whether the text around `c` must be looked at: it combines backwards or is replaced.
  bool IsInteresting(std::uint32_t c) const { return c < kTableEnd && interesting_[c]; }

  std::uint32_t Compose(std::uint32_t first, std::uint32_t second) const {
    if (first - kLeads < kNumLeads && second - kVowels < kNumVowels) {
      return kSyllables + ((first - kLeads) * kNumVowels + (second - kVowels)) * kNumTrails;
    }
    const std::uint32_t syllable = first - kSyllables;
    if (syllable < kNumLeads * kNumVowels * kNumTrails && syllable % kNumTrails == 0 && second > kTrails &&
        second < kTrails + kNumTrails) {
      return first + (second - kTrails);
    }
    const auto found = composites_.find(Pair(first, second));
    return found == composites_.end() ? kNothing : found->second;
  }

  // Null when `c` is not a composition.
  const Composition* Decompose(std::uint32_t c) const {
    const auto found = compositions_.find(c);
    return found == compositions_.end() ? nullptr : found->second;
  }

  // Empty when form C keeps `c`.
  std::span<const std::uint32_t> Replacement(std::uint32_t c) const {
    const auto found = replacements_.find(c);
    return found == replacements_.end() ? std::span<const std::uint32_t>() : found->second;
  }

 private:
  Tables() : classes_(kTableEnd, 0), interesting_(kTableEnd, false) {
    for (const CombiningRange& range : CombiningRanges()) {
      for (std::uint32_t c = range.first; c <= range.last; ++c) {
        classes_[c] = range.combining_class;
        interesting_[c] = true;
      }
    }
    for (const Composition& composition : Compositions()) {
      composites_.emplace(Pair(composition.first, composition.second), composition.composite);
      compositions_.emplace(composition.composite, &composition);
      interesting_[composition.second] = true;
    }
    const std::span<const std::uint32_t> all = Replacements();
    for (std::size_t i = 0; i < all.size(); i += 2 + all[i + 1]) {
      replacements_.emplace(all[i], all.subspan(i + 2, all[i + 1]));
      interesting_[all[i]] = true;
    }
    for (std::uint32_t c = kVowels; c < kVowels + kNumVowels; ++c) interesting_[c] = true;
    for (std::uint32_t c = kTrails + 1; c < kTrails + kNumTrails; ++c) interesting_[c] = true;
  }

  std::vector<std::uint8_t> classes_;
  std::vector<bool> interesting_;
  absl::flat_hash_map<std::uint64_t, std::uint32_t> composites_;
  absl::flat_hash_map<std::uint32_t, const Composition*> compositions_;
  absl::flat_hash_map<std::uint32_t, std::span<const std::uint32_t>> replacements_;
};

// Takes characters and appends their form C. Holds one starter (a character of class 0) and the marks after it.
class Composer {
 public:
  explicit Composer(std::string& text) : text_(text) {}

  void Add(std::uint32_t c) {
    const std::span<const std::uint32_t> replacement = tables_.Replacement(c);
    if (replacement.empty()) return Put(c);
    for (const std::uint32_t part : replacement) Put(part);
  }

  // Ends what is held; what is appended to the text next combines with nothing.
  void Flush() {
    ComposeMarks();
    Emit();
  }

 private:
  struct Mark {
    std::uint8_t combining_class;
    std::uint32_t character;
  };

  void Put(std::uint32_t c) {
    const std::uint8_t combining_class = tables_.Class(c);
    if (combining_class != 0) {
      if (marks_.empty()) TakeMarksOffStarter();
      marks_.push_back({combining_class, c});
      return;
    }
    ComposeMarks();
    if (marks_.empty() && starter_ != kNothing) {
      const std::uint32_t composed = tables_.Compose(starter_, c);
      if (composed != kNothing) {
        starter_ = composed;
        return;
      }
    }
    Emit();
    starter_ = c;
  }

  void Emit() {
    if (starter_ != kNothing) AppendCodePoint(starter_, text_);
    for (const Mark& mark : marks_) AppendCodePoint(mark.character, text_);
    marks_.clear();
    starter_ = kNothing;
  }

  // A mark may belong before those that the starter was composed with.
  void TakeMarksOffStarter() {
    while (starter_ != kNothing) {
      const Composition* parts = tables_.Decompose(starter_);
      if (parts == nullptr || tables_.Class(parts->second) == 0) break;
      marks_.insert(marks_.begin(), {tables_.Class(parts->second), parts->second});
      starter_ = parts->first;
    }
  }

  // Brings the marks into canonical order and composes the starter with those that nothing stands in front of.
  void ComposeMarks() {
    if (marks_.empty()) return;
    std::stable_sort(marks_.begin(), marks_.end(),
                     [](const Mark& a, const Mark& b) { return a.combining_class < b.combining_class; });
    if (starter_ == kNothing) return;
    std::size_t kept = 0;
    for (const Mark& mark : marks_) {
      const bool blocked = kept > 0 && marks_[kept - 1].combining_class == mark.combining_class;
      const std::uint32_t composed = blocked ? kNothing : tables_.Compose(starter_, mark.character);
      if (composed != kNothing) {
        starter_ = composed;
      } else {
        marks_[kept++] = mark;
      }
    }
    marks_.resize(kept);
  }

  const Tables& tables_ = Tables::Get();
  std::string& text_;
  std::uint32_t starter_ = kNothing;
  std::vector<Mark> marks_;
};

}  // namespace

bool IsSurelyNfc(std::string_view text) {
  const Tables& tables = Tables::Get();
  for (std::size_t i = 0; i < text.size();) {
    if (static_cast<std::uint8_t>(text[i]) < 0xcc) {  // ASCII, or a lead byte of characters below U+0300
      ++i;
      continue;
    }
    const CodePoint c = DecodeCodePoint(text, i);
    if (c.value >= kFirstInteresting && tables.IsInteresting(c.value)) return false;
    i += c.bytes;
  }
  return true;
}

std::string NormalizeNfc(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  Composer composer(result);
  for (std::size_t i = 0; i < text.size();) {
    const CodePoint c = DecodeCodePoint(text, i);
    if (c.value == CodePoint::kInvalid) {
      composer.Flush();
      result += text[i];
    } else {
      composer.Add(c.value);
    }
    i += c.bytes;
  }
  composer.Flush();
  return result;
}

}  // namespace megakernel
