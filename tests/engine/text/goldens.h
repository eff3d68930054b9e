// Goldens of tests/reference/text_goldens.py, and the model that they were made from.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

namespace megakernel {

inline nlohmann::json ReadGoldens(const std::string& name) {
  std::ifstream file(std::string(MEGAKERNEL_TEXT_GOLDENS) + "/" + name);
  nlohmann::json goldens = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  EXPECT_FALSE(goldens.is_discarded()) << name;
  return goldens;
}

inline std::string TestModelPath() {
  const char* path = std::getenv("MEGAKERNEL_TEST_MODEL");
  EXPECT_NE(path, nullptr) << "MEGAKERNEL_TEST_MODEL names the test model's file";
  return path == nullptr ? "" : path;
}

}  // namespace megakernel
