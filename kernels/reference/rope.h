// Rotary position embedding: frequencies and rotation.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/reference/model_view.h"

namespace megakernel::reference {

// How the angle position * frequency is formed.
//   kExact  frequency and product in double
//   kFloat  both rounded to float, as transformers forms them; the cosine of that rounded angle. At position 32,767
//           the rounded angle is off by up to 2e-3 radians, whatever the precision of the rest.
enum class AngleRounding { kExact, kFloat };

// Radians per position of pair i, for i in [0, head_dim / 2): theta^(-2i / head_dim), scaled by the rope's kind.
// kLlama3: wavelengths below original_context / high_freq_factor stay, those above original_context / low_freq_factor
// are stretched by factor, between them the two are mixed linearly in original_context / wavelength.
// Source: transformers modeling_rope_utils.py, _compute_llama3_parameters.
std::vector<double> RopeFrequencies(const Rope& rope, std::int32_t head_dim);

// Rotates one head in place: (x[i], x[i + d/2]) by the angle of pair i at `position`.
template <class Real>
void Rotate(const std::vector<double>& frequencies, AngleRounding rounding, std::int64_t position, Real* head);

}  // namespace megakernel::reference
