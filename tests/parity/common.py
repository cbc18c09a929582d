"""What the parity scripts share: arguments, comparisons that say what differed, running the product."""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--saturn", required=True, help="the executable")
    parser.add_argument("--driver", required=True, help="tests/parity/driver.cpp, built")
    return parser.parse_args()


def run(*command):
    """Runs a command that must end well and returns its stdout."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"exit code {done.returncode}: {' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def run_json(*command):
    return json.loads(run(*command))


class Checks:
    """Counts comparisons; `end` fails the script when one did not hold."""

    def __init__(self):
        self.failed = 0
        self.made = 0
        self.case = ""

    def holds(self, what, truth):
        self.made += 1
        if not truth:
            self.failed += 1
            print(f"FAILED {self.case}: {what}")

    def close(self, what, got, want, tolerance):
        """The largest absolute difference of two tensors is within `tolerance`."""
        if got.shape != want.shape:
            self.holds(f"{what}: shape {tuple(got.shape)}, expected {tuple(want.shape)}", False)
            return
        difference = (got.double() - want.double()).abs().max().item()
        self.holds(f"{what}: differs by {difference:.3g}, allowed {tolerance:.3g}", difference <= tolerance)

    def end(self):
        print(f"{self.made} comparisons, {self.failed} failed")
        self.holds("nothing was compared", self.made > 0)
        sys.exit(1 if self.failed else 0)


def temporary_directory():
    return tempfile.TemporaryDirectory(prefix="saturn-parity-")


def path_in(directory, name):
    return pathlib.Path(directory) / name
