// Tokenize and Detokenize, without gRPC.
#pragma once

#include "absl/status/status.h"
#include "engine/model/model.h"
#include "megakernel/v1/inference_service.pb.h"
#include "server/prompt_encoder.h"

namespace megakernel {

inline constexpr int kMaxDetokenizeTokens = 1 << 20;

// InvalidArgument naming the field. May take some 0.1 s for the longest texts.
absl::Status Tokenize(const PromptEncoder& encoder, const Model& model, const v1::TokenizeRequest& request,
                      v1::TokenizeResponse& response);
absl::Status Detokenize(const Model& model, const v1::DetokenizeRequest& request, v1::DetokenizeResponse& response);

}  // namespace megakernel
