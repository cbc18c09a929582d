// What-if: the same jobs on other nodes and classes.

#include <algorithm>
#include <charconv>
#include <cmath>

#include "saturn/simulate/simulate.h"

namespace saturn::simulate {
namespace {

constexpr int kMostDevices = 65536;

Diagnostic not_devices(const std::string& text) {
  return {.what = "--devices: " + in_quotes(text) + " does not name nodes",
          .expected = "NODESxDEVICES, with a class where it is another, several joined by +",
          .fix = "--devices 4x8, or --devices 2x8:h100+1x4:a100"};
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
                      .expected = "devices of a class and a number that it was measured on",
                      .fix = "--class NAME:SPEED makes a class of devices from the measured one"});
  }
  if (!faults.empty()) return faults;
  return problem;
}

Result<plan::PlanProblem> with_class(plan::PlanProblem problem, const std::string& text) {
  SATURN_CHECK(!problem.nodes.empty(), "a problem has a node");
  const std::size_t colon = text.find(':');
  double speed = 0.0;
  const char* const end = text.data() + text.size();
  const bool read = colon != std::string::npos && colon > 0 &&
                    std::from_chars(text.data() + colon + 1, end, speed).ptr == end && std::isfinite(speed) &&
                    speed > 0.0;
  if (!read) {
    return Diagnostic{.what = "--class: " + in_quotes(text) + " is no class with a speed",
                      .expected = "NAME:SPEED, the speed relative to the class of the first node",
                      .fix = "--class h100:1.8"};
  }
  const std::string name = text.substr(0, colon);
  const std::string& measured = problem.nodes.front().device_class;
  for (plan::Job& job : problem.jobs) {
    std::erase_if(job.configurations, [&](const plan::Configuration& one) {
      return one.device_class == name && name != measured;
    });
    const std::vector<plan::Configuration> known = job.configurations;
    for (plan::Configuration one : known) {
      if (one.device_class != measured || name == measured) continue;
      one.device_class = name;
      one.time_s /= speed;
      job.configurations.push_back(std::move(one));
    }
  }
  return problem;
}

}  // namespace saturn::simulate
