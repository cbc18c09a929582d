// Planning in a forked child, or in place.

#include "saturn/run/planner.h"

#include <string>

#include "saturn/base/child.h"

namespace saturn::run {
namespace {

constexpr int kNiceness = 10;
constexpr const char* kFrom = "planner";  // stands for a path in faults of what the child wrote

Json fault_to_json(const Diagnostic& fault) {
  return {{"kind", static_cast<int>(fault.kind)},
          {"where", fault.where},
          {"what", fault.what},
          {"expected", fault.expected},
          {"fix", fault.fix}};
}

Json result_to_json(const Result<plan::Plan>& result) {
  Json document = Json::object();
  if (result.ok()) {
    document["plan"] = plan::to_json(*result, {});
    return document;
  }
  Json& faults = document["faults"] = Json::array();
  for (const Diagnostic& fault : result.faults()) faults.push_back(fault_to_json(fault));
  return document;
}

Result<plan::Plan> result_from_text(const std::string& text) {
  SATURN_TRY(const Json document, parse_json(text, kFrom));
  if (document.contains("plan")) return plan::plan_from_json(document["plan"], kFrom);
  Diagnostics read_faults;
  JsonReader reader(document, kFrom, "", read_faults);
  Diagnostics faults;
  const Json& carried = reader.array("faults");
  for (std::size_t i = 0; i < carried.size(); ++i) {
    JsonReader entry = reader.child("faults", i);
    faults.push_back({.kind = static_cast<Kind>(entry.integer("kind")),
                      .where = entry.string("where"),
                      .what = entry.string("what"),
                      .expected = entry.string("expected"),
                      .fix = entry.string("fix")});
  }
  if (!read_faults.empty()) return read_faults;
  return faults;
}

class ChildPlanner final : public Planner {
 public:
  Result<void> start(const plan::PlanProblem& problem, const plan::SolveOptions& options) override {
    SATURN_CHECK(!busy(), "one problem is planned at a time");
    text_.clear();
    SATURN_TRY(child_, Child::start("planner", kNiceness, [&](const Child::Say& say) {
                 plan::SolveOptions own = options;
                 own.stop = nullptr;
                 own.on_progress = nullptr;
                 say(to_line(result_to_json(plan::solve(problem, own))));
               }));
    return {};
  }

  bool busy() const override { return child_.lives(); }
  int fd() const override { return child_.fd(); }

  std::optional<Result<plan::Plan>> take() override {
    if (!busy() || child_.receive(text_)) return std::nullopt;
    const std::optional<std::string> how = child_.wait();
    if (!how) return result_from_text(text_);
    return Result<plan::Plan>(
        Diagnostic{.kind = Kind::machine,
                   .what = "the planner's process ended with " + *how,
                   .expected = "a plan",
                   .fix = "run the same command again, with a shorter [plan] time_limit"});
  }

  void cancel() override { child_.end(); }

 private:
  Child child_;
  std::string text_;
};

class InlinePlanner final : public Planner {
 public:
  Result<void> start(const plan::PlanProblem& problem, const plan::SolveOptions& options) override {
    SATURN_CHECK(!busy(), "one problem is planned at a time");
    result_ = plan::solve(problem, options);
    return {};
  }
  bool busy() const override { return result_.has_value(); }
  int fd() const override { return -1; }
  std::optional<Result<plan::Plan>> take() override {
    std::optional<Result<plan::Plan>> taken = std::move(result_);
    result_.reset();
    return taken;
  }
  void cancel() override { result_.reset(); }

 private:
  std::optional<Result<plan::Plan>> result_;
};

}  // namespace

std::unique_ptr<Planner> make_child_planner() {
  return std::make_unique<ChildPlanner>();
}

std::unique_ptr<Planner> make_inline_planner() {
  return std::make_unique<InlinePlanner>();
}

}  // namespace saturn::run
