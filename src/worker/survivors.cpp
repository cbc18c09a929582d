// A pid that was given to another process since has another start time.

#include "saturn/worker/survivors.h"

#include <signal.h>

#include "worker/processes.h"

namespace saturn::worker {

int end_survivors(const std::vector<RankProcess>& ranks) {
  int ended = 0;
  for (const RankProcess& rank : ranks) {
    if (rank.pid <= 1 || rank.start_ticks == 0 || start_ticks_of(rank.pid) != rank.start_ticks) continue;
    // Every rank leads a process group of its own.
    if (::kill(-rank.pid, SIGKILL) == 0) ++ended;
  }
  return ended;
}

}  // namespace saturn::worker
