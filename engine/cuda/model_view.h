// A loaded model as the kernels take it (kernels/reference/model_view.h): what is packed for the GPU, and what the
// reference interpreter runs.
#pragma once

#include <vector>

#include "engine/model/model.h"
#include "kernels/reference/model_view.h"

namespace megakernel {

// Views of a model's tensors. Plain types are seen where the file is mapped; tensors of block types are dequantised to
// fp32, exactly, into copies that this object owns. `model` must outlive it. Immutable after construction.
class ModelViewOf {
 public:
  explicit ModelViewOf(const Model& model, int threads = 1);
  ModelViewOf(const ModelViewOf&) = delete;
  ModelViewOf& operator=(const ModelViewOf&) = delete;

  const reference::ModelView& view() const { return view_; }

 private:
  reference::Tensor Convert(const TensorView& tensor);

  const int threads_;
  reference::ModelView view_;
  std::vector<std::vector<float>> copies_;
};

}  // namespace megakernel
