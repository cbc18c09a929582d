// What trials that were not made would have measured, within bounds.
//
// Every technique has a formula for its step time of which only ratios mean something (batch/time_model.h).
// The model fits what was measured over what the formula says as
//
//     log(measured / formula) = machine's view of the class + view of (technique, devices, ranks)
//
// by least squares, the second term shrunk towards 0; between two measured widths of a technique it is linear
// in the logarithm of the width. An estimate has a margin by how it was reached (another knob of the same
// technique on as many devices; technique and width known from other classes; technique known from other
// widths; nothing known of it), and never less than twice the error that the model makes where it is fitted
// without one of its trials. Beside the fit there is a law: more devices do not make a step cost fewer
// device-seconds than the formula says, within a slack. It bounds from below by what is narrower and from
// above by what is wider of the same technique. Where both bound, the tighter one holds; where they
// contradict each other, the wider. What comes out of its bounds widens all margins (`missed`).

#pragma once

#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "saturn/profile/profile.h"

namespace saturn::profile {

struct Estimate {
  double step_s = 0.0;
  double low_s = 0.0;
  double high_s = 0.0;
};

class CostModel {
 public:
  /// From those of `trials` that were measured, ran and have a prediction. `widening` multiplies the
  /// logarithms of all margins.
  explicit CostModel(const std::vector<Trial>& trials, double widening = 1.0);

  /// Of a candidate with its technique's prediction. Nothing where there is no prediction, or nothing was
  /// measured.
  std::optional<Estimate> estimate(const Trial& candidate) const;

 private:
  using Way = std::tuple<std::string, std::string, int, int>;  // technique, device class, devices, ranks

  struct Point {
    Trial trial;
    double log_ratio = 0.0;
    std::size_t of_class = 0;  // positions in `classes_` and `ways_`
    std::size_t of_way = 0;
  };
  // Nothing for a class or way that no point speaks of.
  struct Fit {
    std::vector<std::optional<double>> of_class;
    std::vector<std::optional<double>> of_way;
    double of_any_class = 0.0;
  };
  enum class Kind { same_way, way_known, technique_known, new_technique };
  struct Guess {
    double log_ratio = 0.0;
    Kind kind = Kind::new_technique;
    bool class_known = true;
  };

  static Way way_of(const Trial& trial);
  Fit fitted(const Point* without) const;
  Guess guess(const Fit& fit, const Trial& candidate, const Point* without) const;
  double worst_error_without_one() const;
  double margin(const Guess& guess) const;  // of the logarithm

  std::vector<Point> points_;
  std::map<std::string, std::size_t> classes_;
  std::map<Way, std::size_t> ways_;
  double widening_ = 1.0;
  Fit fit_;
  double known_error_ = 0.0;  // of the logarithm, where a way is known from other classes
};

/// By how much margins must widen for `measured_s` to have been within the bounds: 1 where it was.
double missed(const Estimate& estimate, double measured_s);

}  // namespace saturn::profile
