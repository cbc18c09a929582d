// A job on this rank: what it is made of, and its single steps. The loop over them is in rank.cpp.

#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "saturn/base/json.h"
#include "saturn/batch/batch.h"
#include "saturn/batch/technique_spec.h"
#include "saturn/data/dataset.h"
#include "saturn/data/loader.h"
#include "saturn/data/order.h"
#include "saturn/train/checkpoint.h"
#include "saturn/train/communicator.h"
#include "saturn/train/saver.h"
#include "saturn/train/technique.h"
#include "saturn/worker/messages.h"

namespace saturn::train {

/// One step of the whole job, the same on every rank.
struct StepReport {
  double loss = 0.0;  ///< mean over the targets of the global batch
  double learning_rate = 0.0;
  double gradient_norm = 0.0;
  double step_time_s = 0.0;  ///< from asking for the batch to a synchronised device
  double data_time_s = 0.0;  ///< of that, waiting for the batch
  std::int64_t num_rows = 0;
  std::int64_t num_tokens = 0;
  bool finite = true;  ///< false: loss or gradients were not, and no weight was changed
};

/// What rank 0 was asked to do; every rank learns it with the step's loss, and so at the same step.
struct Requests {
  bool save = false;
  bool end = false;
  std::int64_t stop_at_step = 0;  ///< 0 = not asked
};

/// Means over validation samples.
struct Validated {
  double loss = 0.0;
  std::optional<double> accuracy;  ///< of classifiers: the likeliest class was the true one
  std::optional<double> accuracy_top5;
};

/// Every member throws Failure, or what LibTorch throws.
class Training {
 public:
  /// Meets the other ranks, opens the data, builds and places the model; continues from `assign.resume_from`.
  explicit Training(const worker::Assign& assign);

  /// Ends the group; a good path only.
  void shut_down();

  /// The next step. `mine` counts on rank 0 only; `agreed` is what rank 0 was asked.
  StepReport step(const Requests& mine, Requests& agreed);

  /// Over at most `max_batches` global batches of validation samples (0 = all); nothing without any.
  std::optional<Validated> evaluate(std::int64_t max_batches = 0);
  std::int64_t num_validation_batches() const;
  /// What rank 0 gives, on every rank. For what ranks measure themselves and must do alike.
  std::int64_t number_of_first_rank(std::int64_t mine);
  double baseline_loss() const;
  /// Samples that this rank could not read and replaced by others.
  std::int64_t num_corrupt() const { return dataset_->num_corrupt(); }
  bool reads_images() const { return source_.kind == batch::DataKind::images; }
  /// Of all steps' time, the share that was waiting for data.
  double data_share() const { return stepped_s_ > 0.0 ? waited_s_ / stepped_s_ : 0.0; }

  /// Begins to save in the background; what becomes of it is in `take_save_reports`, on rank 0.
  ///
  /// Errors: what is known before anything is written, such as a full disk; the training can go on.
  Result<void> begin_save(const std::string& directory, int keep);
  std::vector<SaveReport> take_save_reports() { return saver_->take_reports(); }
  /// Returns on all ranks once the save in the background has ended, well or not.
  void wait_for_save();
  /// Saves at once.
  void save(const std::string& directory, int keep);
  /// The checkpoint, or the newest before it that can be read.
  void load(const std::string& directory);
  /// What this rank found wrong with the checkpoints that were passed over.
  const Diagnostics& passed_over() const { return passed_over_; }
  void write_model(const std::string& directory);

  /// Steps done, and of the whole job.
  std::int64_t num_done() const { return progress_.step; }
  std::int64_t num_steps() const { return num_steps_; }
  bool is_first_rank() const { return communicator_->rank() == 0; }
  const batch::Job& job() const { return job_; }
  std::int64_t memory_peak_bytes() const;
  std::map<std::string, double> measured() const { return technique_->measured(); }
  Json tuned_knobs() const { return technique_->tuned_knobs(); }

 private:
  void make_technique(const worker::Assign& assign);
  void begin_loading();
  /// Collectives that wait for files get the time of a meeting, those of a step a multiple of a step.
  void expect_long_waits(bool expected);

  batch::Job job_;
  batch::DataSource source_;
  batch::Configuration configuration_;
  Json configuration_json_;
  c10::Device device_{c10::kCPU};
  double long_timeout_s_ = 300.0;
  double step_timeout_s_ = 0.0;  ///< 0 until a step has been timed
  double stepped_s_ = 0.0, waited_s_ = 0.0;
  std::unique_ptr<Communicator> communicator_;
  std::unique_ptr<data::Dataset> dataset_;
  std::optional<data::SampleOrder> order_;
  std::int64_t num_steps_ = 0;
  Progress progress_;
  std::unique_ptr<Technique> technique_;
  std::unique_ptr<Saver> saver_;  ///< after `technique_`: it copies its state, and ends first
  Diagnostics passed_over_;
  std::unique_ptr<data::Loader> loader_;  ///< after `technique_`: it asks it for shares, and ends first
};

}  // namespace saturn::train
