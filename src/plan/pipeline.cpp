// Policy "saturn": constructive plans, bounds, local search, exact search. Each stage only improves.

#include "plan/pipeline.h"

#include <algorithm>

#include "plan/anneal.h"
#include "plan/bounds.h"
#include "plan/construct.h"
#include "saturn/base/random.h"

namespace saturn::plan {
namespace {

constexpr double kIdleWeights[] = {0.5, 1.0, 0.2};

class Pipeline {
 public:
  Pipeline(const Reduced& reduced, const SolveOptions& options, Incumbent& incumbent)
      : reduced_(reduced), options_(options), incumbent_(incumbent) {}

  void run() {
    construct();
    if (incumbent_.finished()) return;
    search();
  }

 private:
  void construct() {
    incumbent_.raise_bound(simple_bound_s(reduced_), "area");
    incumbent_.offer(best_list(reduced_, capped_allotments(reduced_)), "list");
    incumbent_.offer(current_practice(reduced_), "list");
    const AllotmentBound lp = allotment_bound(reduced_, incumbent_.value().makespan_s);
    incumbent_.raise_bound(lp.bound_s, "pattern LP");
    incumbent_.offer(best_list(reduced_, lp.roundings), "LP rounding");
    class_price_ = lp.class_price;
  }

  // Annealing in rounds of growing length; the last takes what is left.
  void search() {
    double speed = 0.0;
    for (int round = 0; !incumbent_.finished(); ++round) {
      std::int64_t length = 20000;
      if (options_.iterations) {
        const std::int64_t left = *options_.iterations - incumbent_.iterations;
        if (left <= 0) return;
        length = std::min<std::int64_t>(
            left, std::max<std::int64_t>(2000, *options_.iterations >> std::max(0, 5 - round)));
      } else if (round > 0) {
        const double left_s = incumbent_.left_s();
        const double share =
            round < 5 ? std::min(left_s, options_.time_limit_s / static_cast<double>(1 << (6 - round)))
                      : left_s;
        length = std::max<std::int64_t>(20000, static_cast<std::int64_t>(speed * share));
      }
      const double before_s = incumbent_.elapsed_s();
      const AnnealOptions how{.seed = mix_key(options_.seed, static_cast<std::uint64_t>(round)),
                              .bound_s = incumbent_.bound_s(),
                              .idle_weight = kIdleWeights[round % 3],
                              .class_price = class_price_};
      const AnnealResult result =
          anneal(reduced_, incumbent_.solution(), how, {length, [&] { return incumbent_.finished(); }});
      incumbent_.iterations += result.iterations;
      incumbent_.offer(result.solution, "annealing");
      speed = static_cast<double>(result.iterations) / std::max(1e-6, incumbent_.elapsed_s() - before_s);
      if (result.iterations == 0) return;
    }
  }

  const Reduced& reduced_;
  const SolveOptions& options_;
  Incumbent& incumbent_;
  std::vector<double> class_price_;
};

}  // namespace

void run_pipeline(const Reduced& reduced, const SolveOptions& options, Incumbent& incumbent) {
  Pipeline(reduced, options, incumbent).run();
}

}  // namespace saturn::plan
