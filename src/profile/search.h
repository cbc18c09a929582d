// Which configurations are worth a trial: the search in each technique's knobs, and between techniques.
//
// The candidates of one speed class on one number of devices are a group. In it they are tried in the order
// of their predicted times, until no untried one can win:
//
//   memory  a candidate that is predicted to need more than a rank has is not tried. Predictions of a
//   technique
//           are scaled by what its first trials of the class measured; before there is one, only what is over
//           the limit by half counts as too large.
//   time    once something in the group fits, a candidate must be predicted to take no longer than the best
//           measured one and a tenth; a quarter where nothing is known of its technique, since predictions
//           compare worse between techniques than within one. What a technique took against the best one on
//           as many devices in another class corrects its prediction here.
//   trade   where a sibling of the technique ran that is predicted to be quicker and to need more memory, the
//           memory was there: what gives time for memory (shards, recomputing) has nothing left to win,
//           however close its time. Recomputing never wins against the same knobs without.
//   failed  where a technique failed for another reason than memory, its other knobs are left.
//   named   a technique that a job of the class names in its `techniques` is worth a trial in every group,
//   unless
//           memory speaks against it.
//
// What is worth a trial by these rules may still be unable to change the plan: that is for profile/worth.h.
//
// All of it is a function of what has been measured so far, asked anew each time: a verdict is only final at
// the end, when everything that was not tried is recorded with its reason.

#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "saturn/profile/profile.h"

namespace saturn::profile {

/// A candidate that may still be measured.
struct Open {
  const Trial* trial = nullptr;  ///< with its predictions
  bool is_running = false;
};

class Search {
 public:
  /// Among `wanted_trials` of the batch, or among the `candidates` that a test makes up.
  Search(const batch::Batch& batch, const devices::Machine& machine);
  Search(std::vector<Trial> candidates, const batch::Batch& batch, const devices::Machine& machine);

  /// Of candidates with no result yet.
  std::size_t num_groups() const { return groups_.size(); }

  /// The next trial of a group; null while one of its trials runs, and where none is left that is worth one.
  const Trial* next(std::size_t group) const;

  /// Of every technique in every group the candidate that runs, else the one that would be tried first of
  /// those worth a trial.
  std::vector<Open> open() const;

  /// The quickest trial that ran of the class and the device class of trial `id` on as many devices or fewer;
  /// null where there is none.
  const Trial* rival_of(const std::string& id) const;

  /// From now on only what is predicted not to fit is left out.
  void try_everything() { is_exhaustive_ = true; }

  /// Whether a trial of its group runs, whose outcome decides what is next in it.
  bool is_group_busy(const std::string& id) const;
  const Trial& candidate(const std::string& id) const { return candidates_[by_id_.at(id)].trial; }

  void start(const std::string& id);

  /// Of a trial that was started, or that an earlier profile holds. False where it is no candidate.
  bool conclude(const Trial& trial);

  /// How many more trials there will be if predictions hold, those that run included.
  int num_expected() const;

  /// Every candidate without a result: as a trial out of memory where memory was the reason, else in
  /// `untried`; with `left` and `reason` what was worth a trial by these rules.
  void finish(Profile& into, Untried::Why left, const std::string& reason) const;

 private:
  struct Candidate {
    Trial trial;                   // with its predictions; after `conclude` the result
    Json asked;                    // knobs, before the technique tuned them
    std::int64_t limit_bytes = 0;  // of one rank; 0 = none
    std::size_t group = 0;
    std::size_t family = 0;
    bool named = false;
    bool running = false;
    bool concluded = false;
  };
  struct Verdict {
    enum class Kind { worth_trying, too_large, too_slow, failing };
    Kind kind = Kind::worth_trying;
    std::int64_t needed_bytes = 0;  // too_large
    std::string reason;
  };
  using Group = std::vector<std::size_t>;

  const Candidate* best_of(const Group& group) const;
  std::optional<double> time_scale(const Group& group, const std::string& technique) const;
  std::optional<double> handicap_elsewhere(const Group& group, const std::string& technique,
                                           const std::string& best) const;
  double predicted_s(const Group& group, const Candidate& candidate) const;
  Verdict verdict(const Group& group, const Candidate& candidate, const Candidate* best) const;
  Verdict verdict_on_memory(const Candidate& candidate) const;
  const Candidate* sibling_that_does(const Group& group, const Candidate& candidate) const;
  const Candidate* failed_sibling(const Group& group, const Candidate& candidate) const;

  std::vector<Candidate> candidates_;
  std::vector<Group> groups_;
  std::vector<Group> families_;  // of one class, technique and device class: what calibrates memory
  std::map<std::string, std::size_t> by_id_;
  bool is_exhaustive_ = false;
};

/// Measured over predicted peak memory of a technique's trials of a class: the factor to scale its other
/// predictions by. Nothing before one of them was measured; a trial out of memory counts with what it needed
/// at least.
std::optional<double> memory_scale(const std::vector<const Trial*>& trials);

}  // namespace saturn::profile
