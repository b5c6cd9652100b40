// The threads that compute for a llama_context.
#pragma once

#include "error.h"
#include "llama.h"

#include <algorithm>
#include <memory>

namespace shimmy {

// With OpenMP ggml takes the threads of the process's one team; otherwise a pool is attached, since ggml would make and
// end one for every graph. Must outlive the context it was attached to.
class Threads {
  public:
    // `spin`: how long waiting threads of a pool poll before they sleep, 0..100. Throws E_MEMORY where threads cannot be started.
    void attach(llama_context * context, int32_t n_threads, int32_t n_threads_batch, int32_t spin) {
#ifdef SHIMMY_OPENMP
        (void) spin;
        llama_set_n_threads(context, n_threads, n_threads_batch);
#else
        ggml_threadpool_params p = ggml_threadpool_params_default(std::max(n_threads, n_threads_batch));
        p.poll = static_cast<uint32_t>(spin);
        std::unique_ptr<ggml_threadpool, Free> pool(ggml_threadpool_new(&p));
        if (!pool) {
            throw Error(SHIMMY_E_MEMORY, "could not start threads");
        }
        llama_attach_threadpool(context, pool.get(), pool.get());
        llama_set_n_threads(context, n_threads, n_threads_batch);
        pool_ = std::move(pool);
#endif
    }

  private:
    struct Free {
        void operator()(ggml_threadpool * p) const { ggml_threadpool_free(p); }
    };
    std::unique_ptr<ggml_threadpool, Free> pool_;
};

}  // namespace shimmy
