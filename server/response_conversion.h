// What the engine produced, as messages of the API.
#pragma once

#include <cstdint>
#include <string>

#include "engine/core/session.h"
#include "engine/core/token_stream.h"
#include "megakernel/v1/generation.pb.h"
#include "megakernel/v1/session_service.pb.h"
#include "server/request_conversion.h"

namespace megakernel {

void FillStarted(const Started& started, const std::string& request_id, std::uint64_t seed,
                 const std::string& instance_id, v1::GenerationStarted& message);

// Whether choice `index` has output in `update` that the caller wants. Prompt logprobs go with choice 0.
bool HasDelta(const OutputSelection& selection, int index, const StreamUpdate& update);
// That output. `delta` is empty before.
void FillDelta(const OutputSelection& selection, int index, const StreamUpdate& update, v1::GenerationDelta& delta);

void FillFinished(int index, const Finished& finished, v1::GenerationFinished& message);

void FillSession(const SessionInfo& info, v1::Session& message);

}  // namespace megakernel
