// The fit, its margins, and the law of device-seconds.

#include "profile/cost_model.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace saturn::profile {
namespace {

constexpr int kRounds = 20;               // of the alternating fit; each halves what is left or better
constexpr std::size_t kMostLeftOut = 64;  // fits to find the model's error
constexpr double kShrink = 0.5;           // trials' worth of belief that a way is as its formula says
constexpr double kOtherKnobs = 0.10;      // margins, as shares
constexpr double kOtherClass = 0.15;
constexpr double kOtherWidth = 0.25;
constexpr double kNewTechnique = 0.50;
constexpr double kNewClass = 1.00;
constexpr double kMostOff = 10.0;  // times: a disturbed trial makes no estimate worthless
constexpr double kSlack = 0.005;   // of the law; what gains more from width is a miss, and widens it

}  // namespace

CostModel::Way CostModel::way_of(const Trial& trial) {
  const batch::Configuration& one = trial.configuration;
  return {one.technique, one.device_class, one.num_devices, one.num_ranks};
}

CostModel::CostModel(const std::vector<Trial>& trials, double widening) : widening_(widening) {
  for (const Trial& trial : trials) {
    const bool usable = trial.is_measured() && trial.outcome == Outcome::ok && trial.step_time_s > 0.0 &&
                        trial.predicted_step_time_s > 0.0;
    if (!usable) continue;
    points_.push_back({.trial = trial,
                       .log_ratio = std::log(trial.step_time_s / trial.predicted_step_time_s),
                       .of_class = classes_.emplace(trial.job_class, classes_.size()).first->second,
                       .of_way = ways_.emplace(way_of(trial), ways_.size()).first->second});
  }
  fit_ = fitted(nullptr);
  known_error_ = worst_error_without_one();
}

CostModel::Fit CostModel::fitted(const Point* without) const {
  struct Sum {
    double sum = 0.0;
    int count = 0;
  };
  std::vector<double> of_class(classes_.size(), 0.0), of_way(ways_.size(), 0.0);
  std::vector<Sum> class_sums(classes_.size()), way_sums(ways_.size());
  for (int round = 0; round < kRounds; ++round) {
    std::fill(class_sums.begin(), class_sums.end(), Sum{});
    for (const Point& point : points_) {
      if (&point == without) continue;
      class_sums[point.of_class].sum += point.log_ratio - of_way[point.of_way];
      ++class_sums[point.of_class].count;
    }
    for (std::size_t i = 0; i < of_class.size(); ++i)
      of_class[i] = class_sums[i].count > 0 ? class_sums[i].sum / class_sums[i].count : 0.0;
    std::fill(way_sums.begin(), way_sums.end(), Sum{});
    for (const Point& point : points_) {
      if (&point == without) continue;
      way_sums[point.of_way].sum += point.log_ratio - of_class[point.of_class];
      ++way_sums[point.of_way].count;
    }
    for (std::size_t i = 0; i < of_way.size(); ++i)
      of_way[i] = way_sums[i].sum / (way_sums[i].count + kShrink);
  }
  Fit fit{.of_class = std::vector<std::optional<double>>(classes_.size()),
          .of_way = std::vector<std::optional<double>>(ways_.size())};
  int num_classes = 0;
  for (std::size_t i = 0; i < of_class.size(); ++i) {
    if (class_sums[i].count == 0) continue;
    fit.of_class[i] = of_class[i];
    fit.of_any_class += of_class[i];
    ++num_classes;
  }
  if (num_classes > 0) fit.of_any_class /= num_classes;
  for (std::size_t i = 0; i < of_way.size(); ++i) {
    if (way_sums[i].count > 0) fit.of_way[i] = of_way[i];
  }
  return fit;
}

CostModel::Guess CostModel::guess(const Fit& fit, const Trial& candidate, const Point* without) const {
  const auto known_class = classes_.find(candidate.job_class);
  const std::optional<double> of_class =
      known_class == classes_.end() ? std::nullopt : fit.of_class[known_class->second];
  const Way way = way_of(candidate);
  const auto known_way = ways_.find(way);
  Guess guess{.class_known = of_class.has_value()};
  // Other knobs of the same technique on the same devices, in the class itself: the kindest of them.
  for (const Point& point : points_) {
    const bool is_same = known_class != classes_.end() && known_way != ways_.end() &&
                         point.of_class == known_class->second && point.of_way == known_way->second;
    if (&point == without || !is_same) continue;
    const bool first = guess.kind != Kind::same_way;
    guess.log_ratio = first ? point.log_ratio : std::min(guess.log_ratio, point.log_ratio);
    guess.kind = Kind::same_way;
  }
  if (guess.kind == Kind::same_way) return guess;

  guess.log_ratio = of_class.value_or(fit.of_any_class);
  if (known_way != ways_.end() && fit.of_way[known_way->second]) {
    guess.kind = Kind::way_known;
    guess.log_ratio += *fit.of_way[known_way->second];
    return guess;
  }
  // The nearest widths on both sides.
  struct Neighbour {
    int width = 0;
    double log_ratio = 0.0;
  };
  std::optional<Neighbour> narrower, wider;
  const int num_devices = candidate.configuration.num_devices;
  for (const auto& [other, index] : ways_) {
    if (!fit.of_way[index] || std::get<0>(other) != std::get<0>(way) ||
        std::get<1>(other) != std::get<1>(way))
      continue;
    const Neighbour one{.width = std::get<2>(other), .log_ratio = *fit.of_way[index]};
    if (one.width <= num_devices && (!narrower || one.width > narrower->width)) narrower = one;
    if (one.width >= num_devices && (!wider || one.width < wider->width)) wider = one;
  }
  if (!narrower && !wider) return guess;
  guess.kind = Kind::technique_known;
  if (!narrower) narrower = wider;
  if (!wider) wider = narrower;
  const double from = std::log(narrower->width), to = std::log(wider->width);
  const double share = to > from ? (std::log(num_devices) - from) / (to - from) : 0.0;
  guess.log_ratio += narrower->log_ratio + share * (wider->log_ratio - narrower->log_ratio);
  return guess;
}

// Of trials whose class and way remain known without them.
double CostModel::worst_error_without_one() const {
  double worst = 0.0;
  const std::size_t stride = 1 + points_.size() / kMostLeftOut;
  for (std::size_t i = 0; i < points_.size(); i += stride) {
    const Point& point = points_[i];
    const Fit rest = fitted(&point);
    const Guess known = guess(rest, point.trial, &point);
    if (known.class_known && known.kind == Kind::way_known)
      worst = std::max(worst, std::abs(point.log_ratio - known.log_ratio));
  }
  return worst;
}

double CostModel::margin(const Guess& guess) const {
  double share = kNewTechnique;
  if (guess.kind == Kind::same_way) share = kOtherKnobs;
  if (guess.kind == Kind::way_known) share = kOtherClass;
  if (guess.kind == Kind::technique_known) share = kOtherWidth;
  double of_log = std::log1p(share);
  if (guess.kind != Kind::same_way) of_log = std::max(of_log, 2.0 * known_error_);
  if (!guess.class_known) of_log += std::log1p(kNewClass);
  return std::min(of_log * widening_, std::log(kMostOff));
}

std::optional<Estimate> CostModel::estimate(const Trial& candidate) const {
  if (points_.empty() || candidate.predicted_step_time_s <= 0.0) return std::nullopt;
  const Guess known = guess(fit_, candidate, nullptr);
  const double error = margin(known);
  Estimate estimate{.step_s = candidate.predicted_step_time_s * std::exp(known.log_ratio)};
  estimate.low_s = estimate.step_s * std::exp(-error);
  estimate.high_s = estimate.step_s * std::exp(error);

  // The law. Between techniques only the one that is best per device-second bounds: the others' overhead is
  // theirs.
  const double slack = std::exp(std::log1p(kSlack) * widening_);
  const double own_formula = candidate.configuration.num_devices * candidate.predicted_step_time_s;
  double least_of_any = std::numeric_limits<double>::infinity(), most_of_own = 0.0;
  double high_s = std::numeric_limits<double>::infinity();
  for (const Point& point : points_) {
    const Trial& other = point.trial;
    if (other.job_class != candidate.job_class ||
        other.configuration.device_class != candidate.configuration.device_class)
      continue;
    const int width = other.configuration.num_devices;
    const double by_formula = own_formula / (width * other.predicted_step_time_s);
    const double device_s = width * other.step_time_s;
    const bool is_own = other.configuration.technique == candidate.configuration.technique;
    if (width <= candidate.configuration.num_devices) {
      const double bound = device_s * std::min(1.0, by_formula);
      least_of_any = std::min(least_of_any, bound);
      if (is_own) most_of_own = std::max(most_of_own, bound);
    }
    if (is_own && width > candidate.configuration.num_devices)
      high_s = std::min(high_s, device_s * std::max(1.0, by_formula));
  }
  const double least = std::max(std::isfinite(least_of_any) ? least_of_any : 0.0, most_of_own);
  const double law_low_s = least / candidate.configuration.num_devices / slack;
  const double law_high_s = high_s / candidate.configuration.num_devices * slack;
  const bool agree = law_low_s <= estimate.high_s && law_high_s >= estimate.low_s;
  if (agree) {
    estimate.low_s = std::max(estimate.low_s, law_low_s);
    estimate.high_s = std::min(estimate.high_s, law_high_s);
  } else {
    estimate.low_s = std::min(estimate.low_s, law_low_s > 0.0 ? law_low_s : estimate.low_s);
    estimate.high_s = std::max(estimate.high_s, std::isfinite(law_high_s) ? law_high_s : law_low_s);
  }
  if (estimate.low_s > estimate.high_s) std::swap(estimate.low_s, estimate.high_s);
  estimate.step_s = std::clamp(estimate.step_s, estimate.low_s, estimate.high_s);
  return estimate;
}

double missed(const Estimate& estimate, double measured_s) {
  const double centre = std::log(estimate.step_s), off = std::log(measured_s) - centre;
  const double room = off < 0.0 ? centre - std::log(estimate.low_s) : std::log(estimate.high_s) - centre;
  constexpr double kLeast = 0.01;  // an estimate that lies on its bound
  return std::max(1.0, std::abs(off) / std::max(room, kLeast));
}

}  // namespace saturn::profile
