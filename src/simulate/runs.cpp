// Many runs, shared out to forked children: each plays every n-th and tells of it in a line.

#include <poll.h>

#include <algorithm>

#include "saturn/base/child.h"
#include "saturn/simulate/simulate.h"

namespace saturn::simulate {
namespace {

std::string line_of(int run, const Outcome& outcome) {
  return to_line({{"run", run},
                  {"planned_s", outcome.planned_s},
                  {"makespan_s", outcome.makespan_s},
                  {"moves", outcome.num_moves},
                  {"looks", outcome.num_looks},
                  {"failures", outcome.num_failures}});
}

// One of the children, with what it has said and nobody has read.
struct Player {
  Child child;
  std::string text;
  bool speaks = true;
};

// Whole lines of `text` into `outcomes`; what is left of it is the beginning of the next.
Result<int> take_lines(std::string& text, std::vector<std::optional<Outcome>>& outcomes) {
  int taken = 0;
  std::size_t begin = 0;
  for (std::size_t end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
    SATURN_TRY(const Json line, parse_json(text.substr(begin, end - begin), "simulation"));
    outcomes[line["run"].get<std::size_t>()] = Outcome{.planned_s = line["planned_s"],
                                                       .makespan_s = line["makespan_s"],
                                                       .num_moves = line["moves"],
                                                       .num_looks = line["looks"],
                                                       .num_failures = line["failures"]};
    ++taken;
  }
  text.erase(0, begin);
  return taken;
}

void wait_for_any(const std::vector<Player>& players) {
  std::vector<pollfd> fds;
  for (const Player& player : players) {
    if (player.speaks) fds.push_back({player.child.fd(), POLLIN, 0});
  }
  ::poll(fds.data(), fds.size(), -1);
}

}  // namespace

Result<std::vector<Outcome>> Simulation::runs(bool introspects, int num_runs, int num_processes,
                                              const std::function<void(int)>& on_progress) const {
  std::vector<std::optional<Outcome>> outcomes(static_cast<std::size_t>(num_runs));
  const auto seed_of = [&](int run) { return settings_.seed + static_cast<std::uint64_t>(run); };
  std::vector<Player> players(num_processes > 1 ? static_cast<std::size_t>(num_processes) : 0);
  for (std::size_t p = 0; p < players.size(); ++p) {
    SATURN_TRY(players[p].child, Child::start("simulation", 0, [&](const Child::Say& say) {
                 for (int run = static_cast<int>(p); run < num_runs; run += num_processes) {
                   const Result<Outcome> outcome = this->run(introspects, seed_of(run));
                   if (!outcome.ok()) return;
                   say(line_of(run, *outcome) + "\n");
                 }
               }));
  }
  int done = 0;
  const auto speaks = [](const Player& player) { return player.speaks; };
  while (std::any_of(players.begin(), players.end(), speaks)) {
    wait_for_any(players);
    for (Player& player : players) {
      if (!player.speaks) continue;
      player.speaks = player.child.receive(player.text);
      SATURN_TRY(const int taken, take_lines(player.text, outcomes));
      done += taken;
      if (on_progress && taken > 0) on_progress(done);
    }
  }

  // What no child told of is played here: all of it where there are none, else to learn what went wrong.
  std::vector<Outcome> all;
  for (int run = 0; run < num_runs; ++run) {
    std::optional<Outcome>& outcome = outcomes[static_cast<std::size_t>(run)];
    if (!outcome) {
      SATURN_TRY(outcome, this->run(introspects, seed_of(run)));
      if (on_progress) on_progress(++done);
    }
    all.push_back(*outcome);
  }
  return all;
}

}  // namespace saturn::simulate
