// A loaded model as the reference interpreter takes it.
#pragma once

#include <vector>

#include "engine/model/model.h"
#include "kernels/reference/model_view.h"

namespace megakernel::test {

// Views of a model's tensors; tensors of block types are dequantised into copies that this object owns.
// `model` must outlive it. Immutable after construction.
class ReferenceModel {
 public:
  explicit ReferenceModel(const Model& model);
  ReferenceModel(const ReferenceModel&) = delete;
  ReferenceModel& operator=(const ReferenceModel&) = delete;

  const reference::ModelView& view() const { return view_; }

 private:
  reference::Tensor Convert(const TensorView& tensor);

  reference::ModelView view_;
  std::vector<std::vector<float>> copies_;
};

}  // namespace megakernel::test
