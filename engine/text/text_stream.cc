#include "engine/text/text_stream.h"

#include <algorithm>
#include <utility>

namespace megakernel {

TextStream::TextStream(std::vector<std::string> stops, bool include_stop) : include_stop_(include_stop) {
  for (std::string& stop : stops) {
    if (!stop.empty()) stops_.emplace_back(std::move(stop));
  }
}

TextStream::StopMatcher::StopMatcher(std::string stop) : text_(std::move(stop)), fallback_(text_.size() + 1, 0) {
  std::size_t length = 0;
  for (std::size_t i = 1; i < text_.size(); ++i) {
    while (length > 0 && text_[i] != text_[length]) length = fallback_[length];
    if (text_[i] == text_[length]) ++length;
    fallback_[i + 1] = length;
  }
}

void TextStream::StopMatcher::Advance(char c) {
  while (matched_ > 0 && c != text_[matched_]) matched_ = fallback_[matched_];
  if (c == text_[matched_]) ++matched_;
}

bool TextStream::Push(std::string_view bytes, std::string& text) {
  decoded_.clear();
  decoder_.Push(bytes, decoded_);
  return Release(text);
}

void TextStream::Finish(std::string& text) {
  if (matched_.empty()) {
    decoded_.clear();
    decoder_.Finish(decoded_);
    if (Release(text)) return;
  }
  text += held_;
  held_.clear();
}

bool TextStream::Release(std::string& text) {
  for (const char c : decoded_) {
    held_ += c;
    const StopMatcher* found = nullptr;
    for (StopMatcher& stop : stops_) {
      stop.Advance(c);
      if (stop.complete() && (found == nullptr || stop.text().size() > found->text().size())) found = &stop;
    }
    if (found == nullptr) continue;
    matched_ = found->text();
    text.append(held_, 0, include_stop_ ? held_.size() : held_.size() - matched_.size());
    held_.clear();
    return true;
  }
  std::size_t keep = 0;
  for (const StopMatcher& stop : stops_) keep = std::max(keep, stop.matched());
  text.append(held_, 0, held_.size() - keep);
  held_.erase(0, held_.size() - keep);
  return false;
}

}  // namespace megakernel
