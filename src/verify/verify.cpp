// One attempt per configuration, the reference first; each is compared as soon as it ends.

#include "saturn/verify/verify.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <map>
#include <optional>

#include "saturn/base/files.h"
#include "saturn/base/nearest.h"
#include "saturn/base/units.h"
#include "saturn/batch/check_devices.h"
#include "saturn/batch/identity.h"
#include "saturn/checkpoint/manifest.h"
#include "saturn/checkpoint/shelf.h"
#include "saturn/profile/attempt_end.h"
#include "saturn/profile/ranks.h"

namespace saturn::verify {
namespace {

constexpr double kPollS = 0.25;
constexpr double kStopGraceS = 1.0;

using profile::Outcome;

/// What one attempt said until all its ranks had ended.
struct Heard : profile::AttemptEnd {
  std::vector<double> losses;
  int num_living = 0;
  bool stopped = false;
};

/// One training that stands for several jobs, and the configurations it is tried under.
struct Subject {
  const batch::Job* job = nullptr;
  std::vector<std::string> jobs;
  std::vector<batch::Configuration> configurations;
};

// What changes the code that runs: the speed class, and whether gradients are clipped and weights decay.
std::string kind_of(const batch::Job& job, const batch::DataSource& data) {
  return batch::speed_class(job, data) + (job.optimizer.clip_norm > 0.0 ? " clipped" : "") +
         (job.optimizer.weight_decay > 0.0 ? " decaying" : "");
}

std::vector<Subject> subjects_of(const batch::Batch& batch, const devices::Machine& machine) {
  std::vector<Subject> subjects;
  std::map<std::string, std::size_t> known;
  for (const batch::Job& job : batch.jobs) {
    const auto [at, is_new] = known.emplace(kind_of(job, batch.data.at(job.data)), subjects.size());
    if (is_new) subjects.push_back({.job = &job});
    Subject& subject = subjects[at->second];
    subject.jobs.push_back(job.name);
    for (const batch::DeviceGroup& group : batch::device_groups(machine)) {
      for (const batch::Configuration& one : batch::configurations_of(job, group)) {
        std::vector<batch::Configuration>& all = subject.configurations;
        if (std::find(all.begin(), all.end(), one) == all.end()) all.push_back(one);
      }
    }
  }
  // The reference is `single` on as little as will do, whether or not the job allows it.
  for (Subject& subject : subjects) {
    std::vector<batch::Configuration>& all = subject.configurations;
    std::stable_partition(all.begin(), all.end(), [](const auto& one) { return one.technique == "single"; });
    if (!all.empty() && all.front().technique != "single")
      all.insert(all.begin(), {.technique = "single", .device_class = all.front().device_class});
  }
  return subjects;
}

double relative(double value, double reference) {
  const double apart = std::fabs(value - reference);
  if (!std::isfinite(value) || !std::isfinite(reference)) return std::numeric_limits<double>::infinity();
  return apart == 0.0 ? 0.0 : apart / std::max(std::fabs(reference), std::numeric_limits<double>::min());
}

class Verification {
 public:
  Verification(const Request& request, worker::Launcher& launcher, const Clock& clock, Observer& observer)
      : request_(request), batch_(*request.batch), launcher_(launcher), clock_(clock), observer_(observer) {}

  Result<Report> run() {
    began_s_ = clock_.now_s();
    std::error_code ignored;
    std::filesystem::remove_all(request_.directory, ignored);  // what an interrupted one left
    const std::vector<Subject> subjects = subjects_of(batch_, *request_.machine);
    std::size_t count = 0;
    for (const Subject& subject : subjects) count += subject.configurations.size();
    observer_.on_begin(static_cast<int>(count));
    Report report;
    for (const Subject& subject : subjects) {
      Result<JobReport> one = verify(subject);
      if (!one.ok()) return std::move(one).faults();
      report.jobs.push_back(*std::move(one));
    }
    std::filesystem::remove(request_.directory, ignored);  // stays where a log does
    return report;
  }

 private:
  Result<JobReport> verify(const Subject& subject) {
    JobReport report{
        .name = subject.job->name, .jobs = subject.jobs, .tolerance = tolerance_of(subject.job->precision)};
    std::optional<Compared> reference;
    Ends ends;
    std::string reference_directory;
    for (const batch::Configuration& configuration : subject.configurations) {
      const std::string directory = join_path(request_.directory, std::to_string(num_attempts_++));
      SATURN_TRY(Compared compared, train(*subject.job, configuration, directory));
      if (compared.outcome == Outcome::ok && !reference) {
        reference = compared;
        reference_directory = directory;
        ends = {.before = checkpoint_in(directory, 0), .after = checkpoint_in(directory, request_.num_steps)};
        report.reference = batch::to_text(compared.configuration);
      } else if (compared.outcome == Outcome::ok) {
        judge(compared, *reference, ends, directory, report.tolerance);
      }
      compared.within &= compared.outcome != Outcome::failed;
      observer_.on_ended(subject.job->name, compared, report.tolerance);
      if (compared.outcome != Outcome::failed && directory != reference_directory) remove(directory);
      report.configurations.push_back(std::move(compared));
    }
    if (!reference_directory.empty()) remove(reference_directory);
    warn(report, reference);
    return report;
  }

  static std::string checkpoint_in(const std::string& directory, std::int64_t step) {
    return join_path(join_path(directory, checkpoint::kShelf), checkpoint::name_of_step(step));
  }

  static void remove(const std::string& directory) {
    std::error_code ignored;
    std::filesystem::remove_all(directory, ignored);
  }

  // The devices of the first node that has enough of the class.
  std::vector<devices::Device> devices_for(const batch::Configuration& configuration,
                                           std::string& node_name) const {
    for (const devices::Node& node : request_.machine->nodes) {
      const auto count = static_cast<std::ptrdiff_t>(configuration.num_devices);
      if (node.device_class != configuration.device_class || std::ssize(node.devices) < count) continue;
      node_name = node.name;
      return {node.devices.begin(), node.devices.begin() + count};
    }
    SATURN_CHECK(false, "configurations are made for the nodes there are");
    return {};
  }

  Result<Compared> train(const batch::Job& job, const batch::Configuration& configuration,
                         const std::string& directory) {
    batch::Job trained = job;
    trained.schedule = {};
    trained.amount = {.unit = batch::Amount::Unit::steps,
                      .value = static_cast<double>(request_.num_steps) + 1};
    std::string node;
    const std::vector<devices::Device> devices = devices_for(configuration, node);
    worker::LaunchRequest launch{
        .attempt = "verify-" + file_name_of(directory),
        .ranks = profile::deal(trained, batch_.data.at(job.data), configuration, node, devices)};
    SATURN_TRY_VOID(make_directories(directory));
    for (std::size_t rank = 0; rank < launch.ranks.size(); ++rank) {
      worker::Assign& assign = launch.ranks[rank];
      assign.mode = worker::Mode::verify;
      assign.job_directory = directory;
      assign.log_path =
          join_path(directory, rank == 0 ? "log.txt" : "log.rank-" + std::to_string(rank) + ".txt");
      assign.trial_steps = request_.num_steps;
    }
    observer_.on_started(job.name, configuration, directory);
    Heard heard;
    heard.num_living = static_cast<int>(launch.ranks.size());
    const std::string attempt = launch.attempt;
    const double deadline_s = clock_.now_s() + batch_.profile.trial_timeout_s;
    SATURN_TRY_VOID(launcher_.launch(std::move(launch)));
    SATURN_TRY_VOID(listen(attempt, deadline_s, heard));
    return concluded(configuration, heard, directory);
  }

  // Until every rank has ended.
  Result<void> listen(const std::string& attempt, double deadline_s, Heard& heard) {
    bool interrupted = false;
    const auto end = [&] {
      if (!heard.stopped) launcher_.stop(attempt, kStopGraceS);
      heard.stopped = true;
    };
    while (heard.num_living > 0) {
      if (!interrupted && request_.stop && request_.stop()) {
        interrupted = true;
        end();
      }
      if (clock_.now_s() >= deadline_s && !heard.stopped) {
        heard.timed_out = true;
        end();
      }
      for (const worker::WorkerEvent& event : launcher_.poll(kPollS)) {
        if (event.attempt == attempt) handle(event, heard, end);
      }
      observer_.on_tick(clock_.now_s() - began_s_);
    }
    if (!interrupted) return {};
    remove(request_.directory);
    return Diagnostic{.kind = Kind::interrupted, .what = "interrupted: nothing was verified to its end"};
  }

  template <class End>
  void handle(const worker::WorkerEvent& event, Heard& heard, const End& end) {
    if (const auto* ended = std::get_if<worker::Ended>(&event.what)) {
      --heard.num_living;
      heard.host_memory_died |= ended->out_of_host_memory;
      const bool lost = ended->exit_code != 0 || ended->signal != 0;
      if (lost && heard.death.empty() && !ended->asked)
        heard.death = "rank " + std::to_string(event.rank) + " ended with " + ended->reason;
      // The others wait for a peer that is gone.
      if (lost && heard.num_living > 0 && !heard.finished) end();
      return;
    }
    const auto& message = std::get<worker::FromRank>(event.what);
    if (const auto* step = std::get_if<worker::Step>(&message)) {
      heard.losses.push_back(step->loss);
      observer_.on_step(static_cast<int>(step->step), request_.num_steps);
    } else if (const auto* error = std::get_if<worker::Error>(&message)) {
      heard.hear(*error);
    } else if (const auto* finished = std::get_if<worker::Finished>(&message)) {
      if (event.rank == 0) heard.finished = *finished;
    }
  }

  Compared concluded(const batch::Configuration& configuration, const Heard& heard,
                     const std::string& directory) const {
    Compared compared{.configuration = configuration, .losses = heard.losses};
    const auto as = [&](Outcome outcome, const std::string& reason) {
      compared.outcome = outcome;
      compared.reason = reason;
      return compared;
    };
    const std::string log = join_path(directory, "log.txt");
    if (const auto failure = profile::failure_of(heard, batch_.profile.trial_timeout_s, log))
      return as(failure->outcome, failure->reason);
    if (std::ssize(heard.losses) != request_.num_steps)
      return as(Outcome::failed, "it reported " + std::to_string(heard.losses.size()) + " steps; see " + log);
    if (!heard.finished->knobs.empty()) compared.configuration.knobs = heard.finished->knobs;
    return as(Outcome::ok, "");
  }

  void judge(Compared& compared, const Compared& reference, const Ends& ends, const std::string& directory,
             const Tolerance& tolerance) const {
    for (std::size_t i = 0; i < compared.losses.size(); ++i) {
      compared.loss_difference =
          std::max(compared.loss_difference, relative(compared.losses[i], reference.losses[i]));
    }
    const Result<Differences> differences = compare(ends, checkpoint_in(directory, request_.num_steps));
    if (!differences.ok()) {
      compared.outcome = Outcome::failed;
      compared.reason = to_text(differences.faults());
      while (compared.reason.ends_with('\n')) compared.reason.pop_back();
      return;
    }
    compared.differences = *differences;
    compared.within = compared.loss_difference <= tolerance.loss &&
                      compared.differences.update <= tolerance.update &&
                      compared.differences.gradient <= tolerance.gradient;
  }

  void warn(JobReport& report, const std::optional<Compared>& reference) const {
    if (!reference) {
      report.warnings.push_back("nothing ran, so that nothing was compared");
      return;
    }
    if (reference->configuration.technique != "single")
      report.warnings.push_back("single did not run: the others are compared with " + report.reference);
    const double moved = std::fabs(reference->losses.back() - reference->losses.front());
    if (!(moved >= kLeastLossChange)) {
      report.warnings.push_back(
          "the loss moved by " + format_number(moved, 2) + " in " + std::to_string(request_.num_steps) +
          " steps, which proves little: try --steps " + std::to_string(4 * request_.num_steps));
    }
  }

  const Request& request_;
  const batch::Batch& batch_;
  worker::Launcher& launcher_;
  const Clock& clock_;
  Observer& observer_;
  double began_s_ = 0.0;
  int num_attempts_ = 0;
};

Json number(double value) {
  return std::isfinite(value) ? Json(value) : Json(nullptr);
}

}  // namespace

Tolerance tolerance_of(const std::string& precision) {
  if (precision == "fp32") return {.loss = 1e-5, .update = 1e-3, .gradient = 1e-3};
  return {.loss = 2e-2, .update = 0.4, .gradient = 0.1};
}

bool Report::passed() const {
  return std::all_of(jobs.begin(), jobs.end(), [](const JobReport& job) {
    return std::all_of(job.configurations.begin(), job.configurations.end(),
                       [](const Compared& compared) { return compared.within; });
  });
}

Result<Report> verify(const Request& request, worker::Launcher& launcher, const Clock& clock,
                      Observer& observer) {
  return Verification(request, launcher, clock, observer).run();
}

Json to_json(const Report& report) {
  Json document = {{"jobs", Json::array()}};
  for (const JobReport& job : report.jobs) {
    Json entry = Json::object();
    entry["name"] = job.name;
    entry["jobs"] = job.jobs;
    entry["reference"] = job.reference;
    entry["tolerance"] = {
        {"loss", job.tolerance.loss}, {"update", job.tolerance.update}, {"gradient", job.tolerance.gradient}};
    Json& configurations = entry["configurations"] = Json::array();
    for (const Compared& compared : job.configurations) {
      const bool ok = compared.outcome == Outcome::ok;
      Json one = Json::object();
      one["technique"] = compared.configuration.technique;
      one["num_devices"] = compared.configuration.num_devices;
      one["num_ranks"] = compared.configuration.num_ranks;
      one["knobs"] = compared.configuration.knobs;
      one["outcome"] = profile::name_of(compared.outcome);
      one["reason"] = compared.reason;
      one["loss_difference"] = ok ? number(compared.loss_difference) : Json(nullptr);
      one["update_difference"] = ok ? number(compared.differences.update) : Json(nullptr);
      one["gradient_difference"] = ok ? number(compared.differences.gradient) : Json(nullptr);
      one["worst_tensor"] = compared.differences.update_tensor;
      one["within_tolerance"] = compared.within;
      configurations.push_back(std::move(one));
    }
    entry["warnings"] = job.warnings;
    document["jobs"].push_back(std::move(entry));
  }
  return document;
}

}  // namespace saturn::verify
