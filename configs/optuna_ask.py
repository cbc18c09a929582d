"""Proposes the jobs of search-optuna.toml with Optuna: the program of [search] method = "ask".

Saturn writes a line of JSON to stdin and waits for a line on stdout (README.md, "Search"). The study lives in
memory: what was proposed before is in the history that Saturn sends first, whoever ran this program then.
"""

import json
import sys

import optuna
from optuna.trial import TrialState

SPACE = {
    "lr": optuna.distributions.FloatDistribution(1e-4, 1e-1, log=True),
    "weight_decay": optuna.distributions.FloatDistribution(0.0, 0.1, step=0.01),
}


class Proposer:
    def __init__(self):
        self.study = None
        self.trials = {}  # by the number of the proposal

    def begin(self, message):
        self.study = optuna.create_study(
            direction="minimize" if message["goal"] == "min" else "maximize",
            sampler=optuna.samplers.TPESampler(seed=message["seed"], constant_liar=True),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=3),
        )
        for known in message["history"]:
            if known["state"] in ("done", "stopped_early", "failed", "cancelled"):
                self.study.add_trial(self.finished(known))
                continue
            self.study.enqueue_trial(known["parameters"])
            trial = self.study.ask(SPACE)
            for step, value in known["reports"]:
                trial.report(self.number_of(value), step)
            self.trials[known["number"]] = trial
        return {"ready": True}

    def ask(self, message):
        trial = self.study.ask(SPACE)
        self.trials[message["number"]] = trial
        return {"parameters": trial.params}

    def report(self, message):
        trial = self.trials[message["number"]]
        trial.report(self.number_of(message["value"]), message["step"])
        return {"stop": bool(trial.should_prune())}

    def tell(self, message):
        trial = self.trials.pop(message["number"])
        state, value = message["state"], message["value"]
        if state == "done" and value is not None:
            self.study.tell(trial, value)
        else:
            self.study.tell(trial, state=TrialState.PRUNED if state == "stopped_early" else TrialState.FAIL)
        return {}

    def finished(self, known):
        done = known["state"] == "done" and known["value"] is not None
        pruned = known["state"] == "stopped_early"
        return optuna.trial.create_trial(
            params=known["parameters"],
            distributions=SPACE,
            value=known["value"] if done else None,
            intermediate_values={step: self.number_of(value) for step, value in known["reports"]},
            state=TrialState.COMPLETE if done else TrialState.PRUNED if pruned else TrialState.FAIL,
        )

    @staticmethod
    def number_of(value):
        return float("nan") if value is None else value


def main():
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # its notes go to stderr
    proposer = Proposer()
    for line in sys.stdin:
        message = json.loads(line)
        print(json.dumps(getattr(proposer, message["type"])(message)), flush=True)


if __name__ == "__main__":
    main()
