// Flags for the parameters of a generation. One flag per field of SamplingParameters, StoppingCriteria and
// OutputOptions: --max-tokens sets stopping.max_tokens and so on. A flag that is not given leaves its field absent.
#pragma once

#include "clients/cli/flags.h"
#include "megakernel/v1/generation.pb.h"

namespace megakernel::cli {

// The messages must outlive `flags`.
void AddSamplingFlags(FlagSet* flags, v1::SamplingParameters* sampling);
void AddStoppingFlags(FlagSet* flags, v1::StoppingCriteria* stopping);
void AddOutputFlags(FlagSet* flags, v1::OutputOptions* output);

}  // namespace megakernel::cli
