// The parts of an answer that a running controller and a command at rest share.

#pragma once

#include <string>

#include "saturn/batch/batch.h"
#include "saturn/run/control.h"

namespace saturn::run {

Answer refused(std::string why);

/// Why a job that waits at a rung is not resumed by hand.
std::string held_by_search(const std::string& job);

/// `job` is no job of the run.
Answer no_such_job(const journal::RunState& state, const std::string& job);

/// What a job that no rank runs becomes by pause, resume or cancel.
Result<Answer> change_job(const journal::JobRecord& record, journal::JobEvent happened,
                          journal::RunDirectory& directory, journal::RunObserver& observer);

/// Journals that `device` takes no new attempts, or may again.
Result<void> change_device(const plan::Device& device, bool drained, const std::string& reason,
                           journal::RunDirectory& directory, journal::RunObserver& observer);

std::string text_of(const plan::Device& device);

/// `batch` with the jobs of `addition` behind its own, and the data they need. A job of the same name and
/// result is there already; one of the same name and another result is a fault, unless `batch` counts before
/// it.
enum class SameName { is_a_fault, batch_counts };
Result<batch::Batch> join(const batch::Batch& batch, const batch::Batch& addition, SameName same_name);

/// `batch` with every batch that was added to the run, as they were then.
Result<batch::Batch> with_additions(const batch::Batch& batch, const journal::RunState& state,
                                    const journal::RunPaths& paths);

/// Copies `addition` into the run directory and journals the jobs of `joined` that the run does not have yet.
/// Returns how many there are.
Result<int> accept_addition(const batch::Batch& addition, const batch::Batch& joined,
                            journal::RunDirectory& directory, journal::RunObserver& observer);

/// "2 jobs joined the run", "its jobs are in the run already".
Answer joined_answer(int num_new);

/// Faults as one sentence.
std::string brief(const Diagnostics& faults);

}  // namespace saturn::run
