// The machine's devices while trials are measured on them: who holds which, and what keeps the others busy.
//
// CPU slots and shares of a GPU disturb each other: trials on a node of them run one at a time, beside work
// of the same class on every other slot, since that is how jobs will run. Whole GPUs disturb each other
// little, and trials on disjoint ones run side by side.

#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "saturn/base/clock.h"
#include "saturn/profile/profile.h"
#include "saturn/worker/launcher.h"

namespace saturn::profile {

inline constexpr double kStopGraceS = 1.0;

class Slots {
 public:
  /// `directory` is where the loads work.
  Slots(const batch::Batch& batch, const devices::Machine& machine, worker::Launcher& launcher,
        const Clock& clock, std::string directory);

  int size() const { return static_cast<int>(slots_.size()); }

  /// Whether `trial` can begin now; `places` says where. Where it cannot, what is in its way is ended and
  /// what must step beside it is started, as far as others allow: ask again after the next event.
  bool prepare(const Trial& trial, std::vector<std::size_t>& places);

  void hold(const std::vector<std::size_t>& places, const std::string& attempt);
  void release(const std::string& attempt);

  const std::string& node_of(const std::vector<std::size_t>& places) const;
  std::vector<devices::Device> devices_of(const std::vector<std::size_t>& places) const;
  /// "1 other slot busy with single x1 of the same class", or "alone".
  std::string beside(const std::vector<std::size_t>& places) const;

  /// True where the event was of a load.
  bool handle(const worker::WorkerEvent& event);
  /// Loads that never stepped are ended, and their class is timed without.
  void check_deadlines();
  void end_loads();
  /// Of loads, once nothing lives.
  void remove_directories() const;

 private:
  struct Slot {
    std::string node;
    devices::Device device;
    std::string held_by;  // attempt; empty = free
  };
  // Work that only keeps another slot busy.
  struct Load {
    std::string attempt;
    std::string job_class;
    std::size_t slot = 0;
    double launched_s = 0.0;
    bool stepping = false;
    bool ending = false;
  };

  bool make_room(const Trial& trial, std::vector<std::size_t>& places);
  bool others_are_busy(const Trial& trial, const std::vector<std::size_t>& places);
  Result<void> start_load(std::size_t slot, const Trial& trial);
  void end(Load& load);
  Load* load_on(std::size_t slot) const;
  std::string directory_of_load(std::size_t slot) const;

  const batch::Batch& batch_;
  const devices::Machine& machine_;
  worker::Launcher& launcher_;
  const Clock& clock_;
  std::string directory_;
  std::vector<Slot> slots_;
  std::vector<std::unique_ptr<Load>> loads_;
  int num_loads_started_ = 0;
  std::set<std::string> cannot_load_;  // classes whose load ended by itself or never stepped
};

/// The first job that a trial is made for.
const batch::Job& job_of(const batch::Batch& batch, const Trial& trial);

}  // namespace saturn::profile
