// Places for trials, and loads beside them.

#include "profile/slots.h"

#include <algorithm>
#include <filesystem>

#include "saturn/base/files.h"
#include "saturn/profile/ranks.h"

namespace saturn::profile {
namespace {

bool is_shared(const devices::Device& device) {
  return device.kind == "cpu" || device.num_shares > 1;
}

bool contains(const std::vector<std::size_t>& places, std::size_t slot) {
  return std::find(places.begin(), places.end(), slot) != places.end();
}

}  // namespace

const batch::Job& job_of(const batch::Batch& batch, const Trial& trial) {
  const auto at = std::find_if(batch.jobs.begin(), batch.jobs.end(),
                               [&](const batch::Job& job) { return job.name == trial.jobs.front(); });
  SATURN_CHECK(at != batch.jobs.end(), "a wanted trial names jobs of its batch");
  return *at;
}

Slots::Slots(const batch::Batch& batch, const devices::Machine& machine, worker::Launcher& launcher,
             const Clock& clock, std::string directory)
    : batch_(batch), machine_(machine), launcher_(launcher), clock_(clock), directory_(std::move(directory)) {
  for (const devices::Node& node : machine.nodes) {
    for (const devices::Device& device : node.devices)
      slots_.push_back({.node = node.name, .device = device});
  }
}

bool Slots::prepare(const Trial& trial, std::vector<std::size_t>& places) {
  return make_room(trial, places) && others_are_busy(trial, places);
}

// Free slots of one node for `trial`, ending loads that stand in the way. False while there is no room.
bool Slots::make_room(const Trial& trial, std::vector<std::size_t>& places) {
  const batch::Configuration& wants = trial.configuration;
  for (const devices::Node& node : machine_.nodes) {
    if (node.device_class != wants.device_class) continue;
    places.clear();
    bool shared = false, trial_runs = false;
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      if (slots_[i].node != node.name) continue;
      shared |= is_shared(slots_[i].device);
      const bool by_load = load_on(i) != nullptr;
      trial_runs |= !slots_[i].held_by.empty() && !by_load;
      const bool free = slots_[i].held_by.empty() || by_load;
      if (free && static_cast<int>(places.size()) < wants.num_devices) places.push_back(i);
    }
    if (static_cast<int>(places.size()) < wants.num_devices) continue;
    // A shared node times one trial at a time.
    if (shared && trial_runs) continue;
    bool clear = true;
    for (const std::size_t place : places) {
      Load* const load = load_on(place);
      if (load == nullptr) continue;
      end(*load);
      clear = false;
    }
    return clear;
  }
  return false;
}

// Whether every shared slot beside `places` is kept busy by the trial's class; starts and ends loads until it
// is so.
bool Slots::others_are_busy(const Trial& trial, const std::vector<std::size_t>& places) {
  bool busy = true;
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i].node != node_of(places) || !is_shared(slots_[i].device) || contains(places, i)) continue;
    if (Load* const load = load_on(i)) {
      if (load->job_class != trial.job_class) end(*load);
      busy &= load->stepping && !load->ending;
    } else if (!cannot_load_.contains(trial.job_class)) {
      // A class that cannot load a slot is timed without; its own trial says what is wrong with it.
      if (start_load(i, trial).ok()) {
        busy = false;
      } else {
        cannot_load_.insert(trial.job_class);
      }
    }
  }
  return busy;
}

Result<void> Slots::start_load(std::size_t slot, const Trial& trial) {
  const batch::Job& job = job_of(batch_, trial);
  const batch::Configuration single{.technique = "single", .device_class = slots_[slot].device.device_class};
  Load load{.attempt = "load-" + std::to_string(num_loads_started_++),
            .job_class = trial.job_class,
            .slot = slot,
            .launched_s = clock_.now_s()};
  worker::LaunchRequest request{
      .attempt = load.attempt,
      .ranks = deal(job, batch_.data.at(job.data), single, slots_[slot].node, {slots_[slot].device})};
  worker::Assign& assign = request.ranks.front();
  assign.mode = worker::Mode::load;
  assign.job_directory = directory_of_load(slot);
  assign.log_path = assign.job_directory + "/log.txt";
  SATURN_TRY_VOID(make_directories(assign.job_directory));
  SATURN_TRY_VOID(launcher_.launch(std::move(request)));
  slots_[slot].held_by = load.attempt;
  loads_.push_back(std::make_unique<Load>(std::move(load)));
  return {};
}

void Slots::end(Load& load) {
  if (load.ending) return;
  load.ending = true;
  launcher_.stop(load.attempt, kStopGraceS);
}

Slots::Load* Slots::load_on(std::size_t slot) const {
  const auto at =
      std::find_if(loads_.begin(), loads_.end(), [&](const auto& load) { return load->slot == slot; });
  return at == loads_.end() ? nullptr : at->get();
}

std::string Slots::directory_of_load(std::size_t slot) const {
  return join_path(directory_, "load-" + std::to_string(slot));
}

void Slots::hold(const std::vector<std::size_t>& places, const std::string& attempt) {
  for (const std::size_t place : places) slots_[place].held_by = attempt;
}

void Slots::release(const std::string& attempt) {
  for (Slot& slot : slots_) {
    if (slot.held_by == attempt) slot.held_by.clear();
  }
}

const std::string& Slots::node_of(const std::vector<std::size_t>& places) const {
  return slots_[places.front()].node;
}

std::vector<devices::Device> Slots::devices_of(const std::vector<std::size_t>& places) const {
  std::vector<devices::Device> devices;
  for (const std::size_t place : places) devices.push_back(slots_[place].device);
  return devices;
}

std::string Slots::beside(const std::vector<std::size_t>& places) const {
  std::size_t num_others = 0;
  for (const auto& load : loads_) num_others += slots_[load->slot].node == node_of(places) ? 1 : 0;
  if (num_others == 0) return "alone";
  return std::to_string(num_others) + " other slot" + (num_others > 1 ? "s" : "") +
         " busy with single x1 of the same class";
}

bool Slots::handle(const worker::WorkerEvent& event) {
  for (auto at = loads_.begin(); at != loads_.end(); ++at) {
    Load& load = **at;
    if (load.attempt != event.attempt) continue;
    if (const auto* message = std::get_if<worker::FromRank>(&event.what)) {
      const auto* const beat = std::get_if<worker::Heartbeat>(message);
      load.stepping |= std::holds_alternative<worker::Step>(*message) || (beat != nullptr && beat->step > 0);
      return true;
    }
    if (!load.ending) cannot_load_.insert(load.job_class);
    slots_[load.slot].held_by.clear();
    loads_.erase(at);
    return true;
  }
  return false;
}

void Slots::check_deadlines() {
  for (const auto& load : loads_) {
    if (load->stepping || load->ending || clock_.now_s() < load->launched_s + batch_.profile.trial_timeout_s)
      continue;
    cannot_load_.insert(load->job_class);
    end(*load);
  }
}

void Slots::end_loads() {
  for (const auto& load : loads_) end(*load);
}

void Slots::remove_directories() const {
  for (std::size_t slot = 0; slot < slots_.size(); ++slot) {
    std::error_code ignored;
    std::filesystem::remove_all(directory_of_load(slot), ignored);
  }
}

}  // namespace saturn::profile
