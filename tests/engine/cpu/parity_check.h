// The CPU executor's logits on a model against transformers' (goldens of tests/reference/parity_goldens.py), with
// bounds that follow from the executor's arithmetic and the model (error_model.h).
#pragma once

#include <string>

#include "engine/model/model.h"
#include "tests/support/parity_goldens.h"

namespace megakernel::test {

struct ParityReport {
  ParityErrors errors;         // against the goldens, all rows
  double bound = 0.0;          // of errors.absolute_max()
  double exact_error = 0.0;    // root mean square against exact logits (double), whole vocabulary, sampled positions
  double estimated = 0.0;      // what error_model.h makes of it
  std::int64_t num_exact = 0;  // positions of these

  double ratio() const { return exact_error / estimated; }
  // Errors within `bound`, `ratio` between 1 / kSpread and kSpread, and no other argmax but where the reference's gap
  // is at most twice the largest error.
  bool pass() const;
};

std::string Describe(const ParityReport& report);

// fp32: everything in fp32; else as served: 16-bit activations where matrices are quantised, keys and values in fp16.
// Runs the reference in double twice over the first `exact_tokens` of the goldens' longer sequences, which is most of
// the time of large models. REQUIRES: the goldens' vocabulary is the model's, sequences of at most 512 tokens.
ParityReport CheckParity(const Model& model, const ParityGoldens& goldens, bool fp32, std::int32_t exact_tokens = 512);

}  // namespace megakernel::test
