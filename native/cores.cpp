// Whether the threads of this process have the cores for themselves.
//
// Threads of one graph wait for one another some twenty times a layer. With GNU's OpenMP they spin for about 3 ms before they sleep:
// best on idle cores, and a disaster beside any other busy thread, which then runs while a whole team spins for a thread that
// waits for its core (docs/performance.md). The runtime reads its spin count once, at start; but it also shortens the spin to 100
// rounds whenever it manages more threads than there are processors (libgomp's team.c and wait.h: gomp_managed_threads,
// gomp_throttled_spin_count_var). So the cores are shared by keeping a second team that sleeps, and taken back by ending it.
// With another OpenMP runtime that team is only some sleeping threads.
#include "error.h"
#include "shimmy.h"

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>

#ifdef SHIMMY_OPENMP
#include <omp.h>
#endif

using namespace shimmy;

namespace {

#ifdef SHIMMY_OPENMP
// A sleeping team of as many threads as there are processors, for as long as it lives.
class SleepingTeam {
  public:
    SleepingTeam() : thread_([this] { run(); }) {}
    SleepingTeam(const SleepingTeam &) = delete;
    SleepingTeam & operator=(const SleepingTeam &) = delete;
    ~SleepingTeam() {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            over_ = true;
        }
        changed_.notify_one();
        thread_.join();
    }

  private:
    void run() {
        const int n_threads = omp_get_num_procs() + 1;
#pragma omp parallel num_threads(n_threads)
        { n_started_.fetch_add(1, std::memory_order_relaxed); }  // an empty region would be compiled away
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, [this] { return over_; });
    }  // the end of a team's first thread ends the team

    std::mutex mutex_;
    std::condition_variable changed_;
    bool over_ = false;
    std::atomic<int> n_started_{0};
    std::thread thread_;  // the last to be made: it uses all the others
};

std::mutex sharing_mutex;
std::unique_ptr<SleepingTeam> sleeping_team;
#endif

}  // namespace

extern "C" {

int32_t shimmy_share_cores(bool on) {
    return guarded([&] {
#ifdef SHIMMY_OPENMP
        const std::lock_guard<std::mutex> lock(sharing_mutex);
        if (!on) {
            sleeping_team.reset();
        } else if (!sleeping_team) {
            sleeping_team = std::make_unique<SleepingTeam>();
        }
#else
        (void) on;
#endif
    });
}

}  // extern "C"
