// The modes of a rank: train a job to a step, measure a trial, be the load beside one, or leave what a few
// steps came to for a comparison.

#include "saturn/train/rank.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <optional>

#include "failure.h"
#include "metrics_file.h"
#include "saturn/base/files.h"
#include "saturn/base/log.h"
#include "saturn/checkpoint/shelf.h"
#include "saturn/train/memory.h"
#include "training.h"

namespace saturn::train {
namespace {

using worker::ErrorClass;
using worker::Mode;

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double unix_s() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

/// The rank while it lives; `run` is its whole life.
class Rank {
 public:
  Rank(const worker::Assign& assign, Controller& controller)
      : assign_(assign), controller_(controller), born_s_(now_s()), num_skipped_(assign.num_skipped_steps) {}

  void run() {
    doing("loading");
    training_.emplace(assign_);
    start_s_ = now_s() - born_s_;
    if (const Diagnostics& faults = training_->passed_over(); !faults.empty())
      controller_.send(worker::Warning{.step = training_->num_done(),
                                       .about = "checkpoint_damaged",
                                       .error_class = ErrorClass::data,
                                       .message = to_text(faults)});
    switch (assign_.mode) {
      case Mode::train:
        train();
        break;
      case Mode::trial:
        measure();
        break;
      case Mode::load:
        step_until_end();
        break;
      case Mode::verify:
        step_between_checkpoints();
        break;
    }
    const std::int64_t done = training_->num_done();
    const std::int64_t peak_bytes = training_->memory_peak_bytes();
    times_.merge(training_->measured());
    times_["data_share"] = training_->data_share();
    Json knobs = training_->tuned_knobs();
    training_->shut_down();
    times_["start_s"] = start_s_;
    controller_.send(worker::Finished{.steps = done,
                                      .times = times_,
                                      .memory_peak_bytes = peak_bytes,
                                      .host_memory_peak_bytes = host_memory_peak_bytes(),
                                      .metrics = metrics_,
                                      .knobs = std::move(knobs)});
  }

 private:
  bool is_first() const { return training_->is_first_rank(); }

  void doing(const char* what) { controller_.set_progress(training_ ? training_->num_done() : 0, what); }

  /// Takes what the controller has asked for since the last step.
  Requests take_requests() {
    for (const worker::ToRank& request : controller_.take_requests()) {
      if (std::holds_alternative<worker::SaveCheckpoint>(request)) asked_.save = true;
      if (std::holds_alternative<worker::End>(request)) asked_.end = true;
      // Step 0 means "now", which is after the step that runs.
      if (const auto* stop = std::get_if<worker::StopAtStep>(&request))
        asked_.stop_at_step = std::max<std::int64_t>(1, stop->step);
    }
    return asked_;
  }

  StepReport step(Requests& agreed) {
    doing("step");
    const StepReport report = training_->step(take_requests(), agreed);
    if (agreed.save) asked_.save = false;
    last_is_finite_ = report.finite;
    if (!report.finite && ++num_skipped_ > assign_.max_skipped_steps) {
      throw Failure(ErrorClass::numerical,
                    "step " + std::to_string(training_->num_done()) + ": the loss is " +
                        std::to_string(report.loss) + " and the gradient norm " +
                        std::to_string(report.gradient_norm) + ", in " + std::to_string(num_skipped_) +
                        (num_skipped_ == 1 ? " step" : " steps") + " of this job; " +
                        std::to_string(assign_.max_skipped_steps) + " may be skipped");
    }
    return report;
  }

  void report(const StepReport& done) {
    if (!is_first()) return;
    controller_.send(worker::Step{.step = training_->num_done(),
                                  .loss = done.loss,
                                  .learning_rate = done.learning_rate,
                                  .gradient_norm = done.gradient_norm,
                                  .step_time_s = done.step_time_s,
                                  .samples = done.num_rows,
                                  .tokens = done.num_tokens,
                                  .skipped = !done.finite});
  }

  // ---- train
  // ------------------------------------------------------------------------------------------------

  void train() {
    const std::int64_t last = std::min(assign_.to_step, training_->num_steps());
    if (is_first()) {
      require(make_directories(assign_.job_directory), ErrorClass::internal);
      metrics_file_.emplace(require(MetricsFile::open(join_path(assign_.job_directory, "metrics.jsonl"),
                                                      training_->num_done(), unix_s()),
                                    ErrorClass::internal));
    }
    if (is_to_validate(training_->num_done())) validate(/*final=*/false);
    while (training_->num_done() < last) {
      Requests agreed;
      const StepReport done = step(agreed);
      const std::int64_t at = training_->num_done();
      if (done.finite) metrics_["train_loss"] = done.loss;
      if (!done.finite || at % std::max<std::int64_t>(1, assign_.log_every) == 0 || at == last) {
        write_line(done);
        report(done);
      }
      if (agreed.end) return finish_saves();
      const int every = training_->job().evaluate_every;
      const bool is_due = (every > 0 && at % every == 0) || is_to_validate(at);
      if (is_due && at < training_->num_steps()) validate(/*final=*/false);
      const bool stop = agreed.stop_at_step > 0 && at >= agreed.stop_at_step;
      const bool due = assign_.checkpoint_every > 0 && at % assign_.checkpoint_every == 0;
      // A segment that ends before the job leaves its state to the next one; a job that ends leaves its
      // weights.
      const bool segment_ends = at == last && last < training_->num_steps();
      if (at < training_->num_steps()) {
        if (stop || segment_ends)
          save_at_once();
        else if (agreed.save || (due && last_is_finite_))  // after a skipped step nothing is known to be good
          begin_save();
        if (stop) break;
      }
      report_saves();
    }
    finish_saves();
    if (training_->num_done() == training_->num_steps()) complete();
  }

  bool is_to_validate(std::int64_t step) const {
    const std::vector<std::int64_t>& at = assign_.evaluate_at;
    return std::find(at.begin(), at.end(), step) != at.end();
  }

  void complete() {
    validate(/*final=*/true);
    if (const std::int64_t corrupt = training_->num_corrupt(); corrupt > 0)
      controller_.send(worker::Warning{
          .step = training_->num_done(),
          .about = "corrupt_samples",
          .error_class = ErrorClass::data,
          .message =
              std::to_string(corrupt) + " images could not be read and were replaced by the next ones"});
    doing("writing the model");
    const double start_s = now_s();
    training_->write_model(join_path(assign_.job_directory, "model"));
    times_["export_s"] = now_s() - start_s;
  }

  void validate(bool final) {
    doing("evaluating");
    const double start_s = now_s();
    const std::optional<Validated> validated = training_->evaluate();
    if (!validated) return;
    times_["evaluate_s"] = now_s() - start_s;
    if (!is_first()) return;
    std::map<std::string, double> values = {{"validation_loss", validated->loss}};
    if (validated->accuracy) values["validation_accuracy"] = *validated->accuracy;
    if (validated->accuracy_top5) values["validation_accuracy_top5"] = *validated->accuracy_top5;
    if (final)
      values[training_->reads_images() ? "class_frequency_loss" : "unigram_loss"] =
          training_->baseline_loss();
    for (const auto& [name, value] : values) metrics_[name] = value;
    Json line = {{"step", training_->num_done()}, {"time_s", time_s()}};
    for (const auto& [name, value] : values) line[name] = value;
    require(metrics_file_->append(line), ErrorClass::internal);
    controller_.send(worker::Metric{training_->num_done(), values});
  }

  std::string checkpoint_path() const {
    return join_path(join_path(assign_.job_directory, checkpoint::kShelf),
                     checkpoint::name_of_step(training_->num_done()));
  }
  int num_to_keep() const { return std::max(1, assign_.keep_checkpoints); }

  /// The training goes on without the checkpoint where it cannot be written.
  void begin_save() {
    doing("saving");
    const Result<void> begun = training_->begin_save(checkpoint_path(), num_to_keep());
    if (!begun.ok()) warn_of(training_->num_done(), begun.faults());
  }

  void save_at_once() {
    doing("saving");
    const double start_s = now_s();
    const std::string path = checkpoint_path();
    training_->save(path, num_to_keep());
    times_["save_s"] = now_s() - start_s;
    report_saves();  // one that was in progress has ended before
    if (is_first()) controller_.send(worker::CheckpointSaved{training_->num_done(), path, times_["save_s"]});
  }

  /// Tells what became of saves in the background since the last call.
  void report_saves() {
    for (const SaveReport& report : training_->take_save_reports()) {
      times_["save_s"] = report.save_s;
      times_["save_pause_s"] = report.pause_s;
      if (report.faults.empty())
        controller_.send(worker::CheckpointSaved{report.step, report.directory, report.save_s});
      else
        warn_of(report.step, report.faults);
    }
  }

  void finish_saves() {
    doing("saving");
    training_->wait_for_save();
    report_saves();
  }

  void warn_of(std::int64_t step, const Diagnostics& faults) {
    log_warning("step " + std::to_string(step) + ": no checkpoint: " + to_text(faults));
    if (!is_first()) return;
    const Kind kind = faults.front().kind;
    controller_.send(worker::Warning{.step = step,
                                     .about = "checkpoint_not_saved",
                                     .error_class = kind == Kind::disk_full    ? ErrorClass::disk_full
                                                    : kind == Kind::job_failed ? ErrorClass::numerical
                                                                               : ErrorClass::internal,
                                     .message = to_text(faults)});
  }

  void write_line(const StepReport& done) {
    if (!metrics_file_) return;
    Json line = {{"step", training_->num_done()},
                 {"time_s", time_s()},
                 {"loss", done.loss},
                 {"learning_rate", done.learning_rate},
                 {"gradient_norm", done.gradient_norm},
                 {"data_time_s", done.data_time_s}};
    if (!done.finite) line["skipped"] = true;
    if (done.num_tokens > 0)
      line["tokens_per_s"] = static_cast<double>(done.num_tokens) / done.step_time_s;
    else
      line["samples_per_s"] = static_cast<double>(done.num_rows) / done.step_time_s;
    require(metrics_file_->append(line), ErrorClass::internal);
  }

  /// Of the job: this attempt's, after those whose lines were kept.
  double time_s() const { return metrics_file_->kept_time_s() + now_s() - born_s_; }

  // ---- trial
  // ------------------------------------------------------------------------------------------------

  void measure() {
    Requests agreed;
    // The controller ends the timing earlier where it has seen enough.
    const auto has_enough = [&] {
      return agreed.end || (agreed.stop_at_step > 0 && training_->num_done() >= agreed.stop_at_step);
    };
    for (int i = 0; i < assign_.warmup_steps + assign_.trial_steps && !has_enough(); ++i)
      report(step(agreed));
    if (agreed.end) return;

    doing("evaluating");
    // At least two batches, then as many as fit in half a second; the whole set takes in proportion.
    double start_s = now_s();
    if (training_->evaluate(1)) {
      const double one_s = now_s() - start_s;
      const std::int64_t all = training_->num_validation_batches();
      // Ranks exchange messages in every batch, so that all must take equally many.
      const std::int64_t some = training_->number_of_first_rank(std::clamp<std::int64_t>(
          static_cast<std::int64_t>(0.5 / std::max(one_s, 1e-6)), 2, all < 2 ? 2 : all));
      start_s = now_s();
      (void)training_->evaluate(some);
      times_["evaluate_s"] =
          (now_s() - start_s) * static_cast<double>(all) / static_cast<double>(std::min(some, all));
    }

    doing("saving");
    const std::string scratch = join_path(assign_.job_directory, "scratch");
    if (is_first()) require(make_directories(scratch), ErrorClass::internal);
    const std::string checkpoint = join_path(scratch, checkpoint::name_of_step(training_->num_done()));
    start_s = now_s();
    require(training_->begin_save(checkpoint, /*keep=*/0), ErrorClass::internal);
    times_["save_pause_s"] = now_s() - start_s;
    training_->wait_for_save();
    times_["save_s"] = now_s() - start_s;
    for (const SaveReport& report : training_->take_save_reports())
      if (!report.faults.empty()) require(Result<void>(report.faults), ErrorClass::internal);
    start_s = now_s();
    training_->load(checkpoint);
    times_["load_s"] = now_s() - start_s;
    start_s = now_s();
    training_->write_model(join_path(scratch, "model"));
    times_["export_s"] = now_s() - start_s;
    std::error_code ignored;
    if (is_first()) std::filesystem::remove_all(scratch, ignored);
  }

  void step_until_end() {
    Requests agreed;
    while (!agreed.end) step(agreed);
  }

  void step_between_checkpoints() {
    const std::string parent = join_path(assign_.job_directory, checkpoint::kShelf);
    if (is_first()) require(make_directories(parent), ErrorClass::internal);
    doing("saving");
    training_->save(join_path(parent, checkpoint::name_of_step(0)), /*keep=*/0);
    Requests agreed;
    for (int i = 0; i < assign_.trial_steps && !agreed.end; ++i) report(step(agreed));
    if (agreed.end) return;
    doing("saving");
    training_->save(join_path(parent, checkpoint::name_of_step(training_->num_done())), /*keep=*/0);
  }

  const worker::Assign& assign_;
  Controller& controller_;
  double born_s_;
  double start_s_ = 0.0;
  std::optional<Training> training_;
  std::optional<MetricsFile> metrics_file_;  ///< rank 0 of a job that trains
  Requests asked_;
  std::int64_t num_skipped_;  ///< of the whole job so far
  bool last_is_finite_ = true;
  std::map<std::string, double> times_;
  std::map<std::string, double> metrics_;
};

}  // namespace

int run_rank(const worker::Assign& assign, Controller& controller) {
  // On a failure the rank is not destroyed: its threads may wait for peers that are gone.
  auto* rank = new Rank(assign, controller);
  try {
    rank->run();
  } catch (...) {
    const worker::Error error = classify(std::current_exception());
    log_warning("rank " + std::to_string(assign.rank) + ": " + to_string(error.error_class) + ": " +
                error.message);
    controller.send(error);
    return 1;
  }
  delete rank;
  return 0;
}

}  // namespace saturn::train
