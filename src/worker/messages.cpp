// The JSON of every message, both ways.

#include "saturn/worker/messages.h"

#include <array>
#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>

#include "saturn/base/nearest.h"

namespace saturn::worker {
namespace {

template <class Enum, std::size_t N>
using Names = std::array<std::pair<Enum, const char*>, N>;

constexpr Names<Mode, 4> kModes = {
    {{Mode::train, "train"}, {Mode::trial, "trial"}, {Mode::load, "load"}, {Mode::verify, "verify"}}};

constexpr Names<ErrorClass, 10> kErrorClasses = {{{ErrorClass::out_of_memory, "out_of_memory"},
                                                  {ErrorClass::host_out_of_memory, "host_out_of_memory"},
                                                  {ErrorClass::unsupported, "unsupported"},
                                                  {ErrorClass::data, "data"},
                                                  {ErrorClass::numerical, "numerical"},
                                                  {ErrorClass::bad_configuration, "bad_configuration"},
                                                  {ErrorClass::disk_full, "disk_full"},
                                                  {ErrorClass::device_lost, "device_lost"},
                                                  {ErrorClass::peer_lost, "peer_lost"},
                                                  {ErrorClass::internal, "internal"}}};

template <class Enum, std::size_t N>
std::string name_of(Enum value, const Names<Enum, N>& names) {
  for (const auto& [candidate, name] : names) {
    if (candidate == value) return name;
  }
  SATURN_CHECK(false, "every enumerator has a name");
  return "";
}

template <class Enum, std::size_t N>
Enum read_name(JsonReader& reader, const char* key, const Names<Enum, N>& names) {
  const std::string given = reader.string(key);
  std::vector<std::string> known;
  for (const auto& [value, name] : names) {
    if (given == name) return value;
    known.emplace_back(name);
  }
  reader.fault(key, in_quotes(given) + " stands here", "one of " + listed(known));
  return names.back().first;
}

// JSON has no number for these, and a loss that is not finite must arrive all the same.
Json number_json(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  return value;
}

double read_number(JsonReader& reader, const char* key) {
  const Json& value = reader.any(key);
  if (!value.is_string()) return reader.number(key);
  const std::string& text = value.get_ref<const std::string&>();
  if (text == "nan") return std::numeric_limits<double>::quiet_NaN();
  if (text == "inf") return std::numeric_limits<double>::infinity();
  if (text == "-inf") return -std::numeric_limits<double>::infinity();
  return reader.number(key);
}

int read_int(JsonReader& reader, const char* key) {
  const std::int64_t value = reader.integer(key);
  if (value >= std::numeric_limits<int>::min() && value <= std::numeric_limits<int>::max()) {
    return static_cast<int>(value);
  }
  reader.fault(key, std::to_string(value) + " stands here", "an integer of 32 bits");
  return 0;
}

std::uint64_t read_unsigned(JsonReader& reader, const char* key) {
  const Json& value = reader.any(key);
  const bool good =
      value.is_number_unsigned() || (value.is_number_integer() && value.get<std::int64_t>() >= 0);
  if (good) return value.get<std::uint64_t>();
  reader.fault(key, value.dump() + " stands here", "an integer of 64 bits that is not negative");
  return 0;
}

Json map_json(const std::map<std::string, double>& values) {
  Json json = Json::object();
  for (const auto& [name, value] : values) json[name] = number_json(value);
  return json;
}

std::map<std::string, double> read_map(JsonReader& reader, const char* key) {
  std::map<std::string, double> values;
  JsonReader members = reader.child(key);
  for (const auto& [name, value] : reader.object_or_empty(key).items()) {
    values[name] = read_number(members, name.c_str());
  }
  return values;
}

Json rendezvous_json(const Rendezvous& rendezvous) {
  return {{"host", rendezvous.host},
          {"port", rendezvous.port},
          {"listen_fd", rendezvous.listen_fd},
          {"key", rendezvous.key},
          {"timeout_s", number_json(rendezvous.timeout_s)}};
}

Rendezvous read_rendezvous(JsonReader reader) {
  Rendezvous rendezvous;
  rendezvous.host = reader.string("host");
  rendezvous.port = read_int(reader, "port");
  rendezvous.listen_fd = read_int(reader, "listen_fd");
  rendezvous.key = reader.string("key");
  rendezvous.timeout_s = read_number(reader, "timeout_s");
  reader.finish();
  return rendezvous;
}

// One `members` (to JSON, without the type) and one `read` (from it) per message, in the order of the header.

Json members(const Assign& assign) {
  Json owned = Json::array();
  for (const devices::Device& device : assign.devices) owned.push_back(devices::to_json(device));
  return {{"job", assign.job},
          {"data", assign.data},
          {"configuration", assign.configuration},
          {"rank", assign.rank},
          {"num_ranks", assign.num_ranks},
          {"node", assign.node},
          {"devices", owned},
          {"cores", assign.cores},
          {"threads", assign.threads},
          {"memory_limit_bytes", assign.memory_limit_bytes},
          {"rendezvous", rendezvous_json(assign.rendezvous)},
          {"mode", to_string(assign.mode)},
          {"job_directory", assign.job_directory},
          {"log_path", assign.log_path},
          {"resume_from", assign.resume_from},
          {"from_step", assign.from_step},
          {"to_step", assign.to_step},
          {"warmup_steps", assign.warmup_steps},
          {"trial_steps", assign.trial_steps},
          {"checkpoint_every", assign.checkpoint_every},
          {"keep_checkpoints", assign.keep_checkpoints},
          {"max_skipped_steps", assign.max_skipped_steps},
          {"num_skipped_steps", assign.num_skipped_steps},
          {"log_every", assign.log_every},
          {"evaluate_at", assign.evaluate_at},
          {"seed", assign.seed}};
}

void read(JsonReader& reader, Assign& assign) {
  assign.job = reader.any("job");
  assign.data = reader.any("data");
  assign.configuration = reader.any("configuration");
  assign.rank = read_int(reader, "rank");
  assign.num_ranks = read_int(reader, "num_ranks");
  assign.node = reader.string("node");
  for (std::size_t i = 0; i < reader.array_or_empty("devices").size(); ++i) {
    assign.devices.push_back(devices::device_from_json(reader.child("devices", i)));
  }
  for (const Json& core : reader.array("cores")) {
    if (core.is_number_unsigned()) {
      assign.cores.push_back(core.get<int>());
    } else {
      reader.fault("cores", core.dump() + " stands here", "an array of core numbers");
    }
  }
  assign.threads = read_int(reader, "threads");
  assign.memory_limit_bytes = reader.integer("memory_limit_bytes");
  assign.rendezvous = read_rendezvous(reader.child("rendezvous"));
  assign.mode = read_name(reader, "mode", kModes);
  assign.job_directory = reader.string("job_directory");
  assign.log_path = reader.string("log_path");
  assign.resume_from = reader.string("resume_from");
  assign.from_step = reader.integer("from_step");
  assign.to_step = reader.integer("to_step");
  assign.warmup_steps = read_int(reader, "warmup_steps");
  assign.trial_steps = read_int(reader, "trial_steps");
  assign.checkpoint_every = reader.integer("checkpoint_every");
  assign.keep_checkpoints = read_int(reader, "keep_checkpoints");
  assign.max_skipped_steps = reader.integer("max_skipped_steps");
  assign.num_skipped_steps = reader.integer("num_skipped_steps");
  assign.log_every = reader.integer("log_every");
  for (const Json& step : reader.array("evaluate_at")) {
    if (step.is_number_integer()) {
      assign.evaluate_at.push_back(step.get<std::int64_t>());
    } else {
      reader.fault("evaluate_at", step.dump() + " stands here", "an array of steps");
    }
  }
  assign.seed = read_unsigned(reader, "seed");
}

Json members(const SaveCheckpoint&) {
  return Json::object();
}
void read(JsonReader&, SaveCheckpoint&) {}

Json members(const StopAtStep& stop) {
  return {{"step", stop.step}};
}
void read(JsonReader& reader, StopAtStep& stop) {
  stop.step = reader.integer("step");
}

Json members(const End&) {
  return Json::object();
}
void read(JsonReader&, End&) {}

Json members(const Ready& ready) {
  return {{"protocol", ready.protocol}, {"pid", ready.pid}, {"phase", ready.phase}};
}
void read(JsonReader& reader, Ready& ready) {
  ready.protocol = read_int(reader, "protocol");
  ready.pid = read_int(reader, "pid");
  ready.phase = reader.string("phase");
}

Json members(const Heartbeat& heartbeat) {
  return {{"step", heartbeat.step}, {"doing", heartbeat.doing}};
}
void read(JsonReader& reader, Heartbeat& heartbeat) {
  heartbeat.step = reader.integer("step");
  heartbeat.doing = reader.string("doing");
}

Json members(const Step& step) {
  return {{"step", step.step},
          {"loss", number_json(step.loss)},
          {"learning_rate", number_json(step.learning_rate)},
          {"gradient_norm", number_json(step.gradient_norm)},
          {"step_time_s", number_json(step.step_time_s)},
          {"samples", step.samples},
          {"tokens", step.tokens},
          {"skipped", step.skipped}};
}
void read(JsonReader& reader, Step& step) {
  step.step = reader.integer("step");
  step.loss = read_number(reader, "loss");
  step.learning_rate = read_number(reader, "learning_rate");
  step.gradient_norm = read_number(reader, "gradient_norm");
  step.step_time_s = read_number(reader, "step_time_s");
  step.samples = reader.integer("samples");
  step.tokens = reader.integer("tokens");
  step.skipped = reader.boolean_or("skipped", false);
}

Json members(const CheckpointSaved& saved) {
  return {{"step", saved.step}, {"path", saved.path}, {"seconds", number_json(saved.seconds)}};
}
void read(JsonReader& reader, CheckpointSaved& saved) {
  saved.step = reader.integer("step");
  saved.path = reader.string("path");
  saved.seconds = read_number(reader, "seconds");
}

Json members(const Metric& metric) {
  return {{"step", metric.step}, {"values", map_json(metric.values)}};
}
void read(JsonReader& reader, Metric& metric) {
  metric.step = reader.integer("step");
  metric.values = read_map(reader, "values");
}

Json members(const Warning& warning) {
  return {{"step", warning.step},
          {"about", warning.about},
          {"class", to_string(warning.error_class)},
          {"message", warning.message}};
}
void read(JsonReader& reader, Warning& warning) {
  warning.step = reader.integer("step");
  warning.about = reader.string("about");
  warning.error_class = read_name(reader, "class", kErrorClasses);
  warning.message = reader.string("message");
}

Json members(const Error& error) {
  return {{"class", to_string(error.error_class)},
          {"message", error.message},
          {"needed_bytes", error.needed_bytes}};
}
void read(JsonReader& reader, Error& error) {
  error.error_class = read_name(reader, "class", kErrorClasses);
  error.message = reader.string("message");
  error.needed_bytes = reader.integer("needed_bytes");
}

Json members(const Finished& finished) {
  return {{"steps", finished.steps},
          {"times", map_json(finished.times)},
          {"memory_peak_bytes", finished.memory_peak_bytes},
          {"host_memory_peak_bytes", finished.host_memory_peak_bytes},
          {"metrics", map_json(finished.metrics)},
          {"knobs", finished.knobs}};
}
void read(JsonReader& reader, Finished& finished) {
  finished.steps = reader.integer("steps");
  finished.times = read_map(reader, "times");
  finished.memory_peak_bytes = reader.integer("memory_peak_bytes");
  finished.host_memory_peak_bytes = reader.integer("host_memory_peak_bytes");
  finished.metrics = read_map(reader, "metrics");
  finished.knobs = reader.object("knobs");
}

// The "type" of each message. Both sides say "checkpoint": one asks for it, the other has saved it.
template <class Message>
constexpr const char* kType = nullptr;
template <>
constexpr const char* kType<Assign> = "assign";
template <>
constexpr const char* kType<SaveCheckpoint> = "checkpoint";
template <>
constexpr const char* kType<StopAtStep> = "stop_at_step";
template <>
constexpr const char* kType<End> = "end";
template <>
constexpr const char* kType<Ready> = "ready";
template <>
constexpr const char* kType<Heartbeat> = "heartbeat";
template <>
constexpr const char* kType<Step> = "step";
template <>
constexpr const char* kType<CheckpointSaved> = "checkpoint";
template <>
constexpr const char* kType<Metric> = "metric";
template <>
constexpr const char* kType<Warning> = "warning";
template <>
constexpr const char* kType<Error> = "error";
template <>
constexpr const char* kType<Finished> = "finished";

template <class Variant>
Json message_json(const Variant& message) {
  return std::visit(
      [](const auto& one) {
        Json json = Json::object();
        json["type"] = kType<std::decay_t<decltype(one)>>;
        json.update(members(one));
        return json;
      },
      message);
}

// Reads into the alternative of `Variant` whose type is `type`; false where there is none.
template <class Variant, std::size_t I = 0>
bool read_as(const std::string& type, JsonReader& reader, Variant& into) {
  if constexpr (I < std::variant_size_v<Variant>) {
    using Message = std::variant_alternative_t<I, Variant>;
    if (type != kType<Message>) return read_as<Variant, I + 1>(type, reader, into);
    read(reader, into.template emplace<I>());
    return true;
  }
  return false;
}

template <class Variant>
Result<Variant> message_from(const Json& json) {
  Diagnostics faults;
  JsonReader reader(json, "message", "", faults);
  const std::string type = reader.string("type");
  Variant message;
  if (faults.empty()) {
    if (read_as(type, reader, message)) {
      reader.finish();
    } else {
      reader.fault("type", in_quotes(type) + " is not a message of this side",
                   "a message of protocol " + std::to_string(kProtocolVersion));
    }
  }
  if (!faults.empty()) return faults;
  return message;
}

}  // namespace

std::string to_string(Mode mode) {
  return name_of(mode, kModes);
}
std::string to_string(ErrorClass error_class) {
  return name_of(error_class, kErrorClasses);
}

Json to_json(const ToRank& message) {
  return message_json(message);
}
Json to_json(const FromRank& message) {
  return message_json(message);
}

Result<ToRank> to_rank_from_json(const Json& json) {
  return message_from<ToRank>(json);
}
Result<FromRank> from_rank_from_json(const Json& json) {
  return message_from<FromRank>(json);
}

}  // namespace saturn::worker
