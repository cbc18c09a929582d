// What-if: the same jobs on other nodes and classes.

#include <algorithm>
#include <cctype>
#include <charconv>

#include "saturn/base/nearest.h"
#include "saturn/simulate/simulate.h"

namespace saturn::simulate {
namespace {

constexpr int kMostDevices = 65536;
constexpr double kLeastSpeed = 1e-3;
constexpr double kMostSpeed = 1e3;

Diagnostic not_devices(const std::string& text) {
  return {.what = "--devices: " + in_quotes(text) + " does not name nodes",
          .expected = "NODESxDEVICES, with a class where it is another, several joined by +",
          .fix = "--devices 4x8, or --devices 2x8:h100+1x4:a100"};
}

// Names of classes that some job was measured on, in the order they appear.
std::vector<std::string> classes_of(const plan::PlanProblem& problem) {
  std::vector<std::string> classes;
  for (const plan::Job& job : problem.jobs) {
    for (const plan::Configuration& one : job.configurations) {
      if (std::find(classes.begin(), classes.end(), one.device_class) == classes.end())
        classes.push_back(one.device_class);
    }
  }
  return classes;
}

// What can stand in --devices.
bool is_class_name(const std::string& name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char letter) {
    return std::isalnum(letter) != 0 || letter == '-' || letter == '_' || letter == '.';
  });
}

bool read_count(const std::string& text, int& into) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), into);
  return error == std::errc() && end == text.data() + text.size() && into > 0 && into <= kMostDevices;
}

}  // namespace

Result<plan::PlanProblem> on_devices(plan::PlanProblem problem, const std::string& text) {
  SATURN_CHECK(!problem.nodes.empty(), "a problem has a node");
  const plan::Node first = problem.nodes.front();
  std::vector<plan::Node> nodes;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find('+', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    const std::size_t colon = part.find(':');
    const std::size_t times = part.find('x');
    int num_nodes = 0;
    int num_devices = 0;
    if (times == std::string::npos || times > colon || !read_count(part.substr(0, times), num_nodes) ||
        !read_count(part.substr(times + 1, colon == std::string::npos ? colon : colon - times - 1),
                    num_devices) ||
        static_cast<std::int64_t>(num_nodes) * num_devices > kMostDevices) {
      return not_devices(text);
    }
    for (int i = 0; i < num_nodes; ++i) {
      plan::Node node = first;
      node.name = "n" + std::to_string(nodes.size());
      node.num_devices = num_devices;
      node.outages.clear();
      if (colon != std::string::npos) node.device_class = part.substr(colon + 1);
      nodes.push_back(std::move(node));
    }
    begin = end + 1;
  }
  const std::vector<std::string> classes = classes_of(problem);
  for (const plan::Node& node : nodes) {
    if (std::find(classes.begin(), classes.end(), node.device_class) != classes.end()) continue;
    return Diagnostic{
        .what = "--devices: no job was measured on class " + in_quotes(node.device_class),
        .expected = "one of " + listed(classes),
        .fix = "--class " + node.device_class + ":1.8 makes it from the measured one, 1.8 times as fast"};
  }
  problem.nodes = std::move(nodes);
  const auto fits = [&](const plan::Configuration& configuration) {
    return std::any_of(problem.nodes.begin(), problem.nodes.end(), [&](const plan::Node& node) {
      return node.device_class == configuration.device_class && node.num_devices >= configuration.num_devices;
    });
  };
  Diagnostics faults;
  for (plan::Job& job : problem.jobs) {
    std::erase_if(job.configurations, [&](const plan::Configuration& one) { return !fits(one); });
    if (!job.configurations.empty()) continue;
    faults.push_back({.kind = Kind::infeasible,
                      .where = problem.name,
                      .what = "no configuration of job " + in_quotes(job.name) + " fits on " + text,
                      .expected = "a node with as many devices of one class as the narrowest needs",
                      .fix = "name a wider node, or one of another class"});
  }
  if (!faults.empty()) return faults;
  return problem;
}

Result<plan::PlanProblem> with_class(plan::PlanProblem problem, const std::string& text) {
  SATURN_CHECK(!problem.nodes.empty(), "a problem has a node");
  const std::size_t colon = std::min(text.find(':'), text.size());
  const std::string name = text.substr(0, colon);
  const std::string number = text.substr(std::min(colon + 1, text.size()));
  double speed = 0.0;
  const char* const end = number.data() + number.size();
  const auto [stopped, error] = std::from_chars(number.data(), end, speed);
  const bool read = error == std::errc() && stopped == end && speed >= kLeastSpeed && speed <= kMostSpeed;
  if (!read || !is_class_name(name)) {
    return Diagnostic{
        .what = "--class: " + in_quotes(text) + " is no class with a speed",
        .expected = "NAME:SPEED, the speed from 0.001 to 1000 times that of the first node's class",
        .fix = "--class h100:1.8"};
  }
  const std::string& measured = problem.nodes.front().device_class;
  if (name == measured) {
    return Diagnostic{.what = "--class: " + in_quotes(name) + " is the class that speeds are relative to",
                      .expected = "a name for devices of another speed",
                      .fix = "--class " + name + "-fast" + text.substr(colon)};
  }
  for (plan::Job& job : problem.jobs) {
    std::erase_if(job.configurations,
                  [&](const plan::Configuration& one) { return one.device_class == name; });
    const std::vector<plan::Configuration> known = job.configurations;
    for (plan::Configuration one : known) {
      if (one.device_class != measured) continue;
      one.device_class = name;
      one.time_s /= speed;
      job.configurations.push_back(std::move(one));
    }
  }
  return problem;
}

}  // namespace saturn::simulate
