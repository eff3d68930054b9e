#include "server/warm_up.h"

#include <memory>
#include <utility>

#include "engine/base/mutex.h"
#include "engine/base/status_macros.h"
#include "engine/core/request.h"
#include "engine/core/token_stream.h"

namespace megakernel {

absl::Status WarmUp(Engine& engine) {
  GenerateRequest request;
  request.tenant.clear();  // nobody's, so that no quota stands in the way
  request.tokens = {0};
  request.max_tokens = 1;
  request.wants_text = false;
  request.sampling.temperature = 0.0f;
  MK_ASSIGN_OR_RETURN(const std::shared_ptr<TokenStream> stream, engine.Generate(std::move(request)));

  Mutex mutex;
  bool woken = false;
  stream->SetWake([&] {
    MutexLock lock(&mutex);
    woken = true;
  });
  for (StreamUpdate update; !update.done;) {
    if (stream->Pop(update)) {
      for (const ChoiceUpdate& choice : update.choices) {
        if (choice.finished && !choice.finished->status.ok()) {
          stream->Detach();
          return choice.finished->status;
        }
      }
      continue;
    }
    MutexLock lock(&mutex);
    const auto ready = [&] { return woken; };
    mutex.Await(ready);
    woken = false;
  }
  stream->Detach();
  return absl::OkStatus();
}

}  // namespace megakernel
