"""Alternates blocks of steps between Saturn's parallel techniques and PyTorch's, and prints ratios of their speed.

Each competitor is a group of live processes over Gloo on loopback, each process with its own threads. One group works
at a time: peers wait on a pipe, Saturn's workers are stopped by SIGSTOP between their blocks, and the step a stop fell
into is not counted. Ratios are formed within each round, whose order alternates; the interval is train.py's.
"""

import argparse
import json
import os
import pathlib
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import train

# technique -> (saturn's knobs, the peer's word); the aim is the least ratio over the peer that is wished for
ROWS = {
    "ddp": dict(knobs={}, peer="ddp", against="PyTorch DDP", aim=1.1),
    "fsdp": dict(knobs={}, peer="fsdp", against="PyTorch fully_shard", aim=1.1),
    "fsdp-whole": dict(technique="fsdp", knobs={"reshard_after_forward": False}, peer="fsdp",
                       against="PyTorch fully_shard", aim=1.1),
    # The peer's head is a table of its own; Saturn's is tied, so its stages also sum that table's gradients.
    "pipeline": dict(knobs={"micro_batches": 4}, peer="pipeline", against="PyTorch 1F1B", aim=1.1),
}

MOST_AFTER_DEATH_S = 5.0  # a rank that dies takes its peers down within


def parse_arguments():
    parser = argparse.ArgumentParser(prog="tools/bench_parallel", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--saturn", default="build/release/saturn", help="the executable")
    parser.add_argument("--shapes", default="small", help="of toy, small and gpt2 [default: small]")
    parser.add_argument("--rows", default="ddp,fsdp", help=f"of {', '.join(ROWS)} [default: ddp,fsdp]")
    parser.add_argument("--threads", type=int, default=1, help="of each process [default: 1]")
    parser.add_argument("--ranks", type=int, default=2, help="processes of a group [default: 2]")
    parser.add_argument("--pairs", type=int, default=7, help="rounds, at least 7 to judge [default: 7]")
    parser.add_argument("--json", help="also write the figures to this file")
    return parser.parse_args()


def first_blocks(shape):
    """The blocks of the first of two stages, by work: the head is as much as so many blocks."""
    block, head = 12 * shape["width"] ** 2, shape["vocabulary"] * shape["width"]
    return min(range(1, shape["layers"] + 1), key=lambda n: max(n * block, (shape["layers"] - n) * block + head))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class PeerGroup:
    def __init__(self, peer, shape, num_ranks):
        server = pathlib.Path(__file__).with_name("parallel_peers.py")
        environment = dict(os.environ, OMP_NUM_THREADS=str(shape["threads"]), GLOO_SOCKET_IFNAME="lo")
        port = free_port()
        self.ranks = [subprocess.Popen([sys.executable, server, peer, json.dumps(shape), str(rank), str(num_ranks),
                                        str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                       env=environment, preexec_fn=train.die_with_parent)
                      for rank in range(num_ranks)]
        for rank in self.ranks:
            if rank.stdout.readline().strip() != "ready":
                sys.exit(f"the peer {peer} did not start")

    def block(self, steps):
        for rank in self.ranks:
            rank.stdin.write(f"{steps}\n")
            rank.stdin.flush()
        return max(float(rank.stdout.readline()) for rank in self.ranks) / steps

    def end(self):
        for rank in self.ranks:
            rank.kill()
            rank.wait()


class SaturnRank(train.SaturnWorker):
    """One of several ranks: train.py's worker with another assignment."""

    def __init__(self, executable, shape, directory, place):
        self.place = place
        super().__init__(executable, shape, directory)

    def assignment(self, executable, shape, directory):
        told = train.SaturnWorker.assignment(executable, shape, directory)
        place = self.place
        told.update(rank=place["rank"], num_ranks=place["num_ranks"],
                    configuration=dict(technique=place["technique"], num_devices=place["num_ranks"],
                                       num_ranks=place["num_ranks"], device_class="cpu", knobs=place["knobs"]))
        told["rendezvous"].update(port=place["port"], key="bench", timeout_s=300)
        return told


class SaturnGroup:
    def __init__(self, executable, shape, directory, technique, knobs, num_ranks):
        place = dict(technique=technique, knobs=knobs, num_ranks=num_ranks, port=free_port())
        self.ranks = [SaturnRank(executable, shape, directory, dict(place, rank=rank)) for rank in range(num_ranks)]

    def block(self, steps):
        for rank in self.ranks[1:]:
            os.kill(rank.process.pid, signal.SIGCONT)
        seconds = self.ranks[0].block(steps)
        for rank in self.ranks[1:]:
            os.kill(rank.process.pid, signal.SIGSTOP)
            rank.drain()
        return seconds

    def finish(self):
        """Ends the training well; what rank 0 measured of itself."""
        for rank in self.ranks:
            os.kill(rank.process.pid, signal.SIGCONT)
        self.ranks[0].send(dict(type="end"))
        while (message := self.ranks[0].receive())["type"] != "finished":
            pass
        for rank in self.ranks:
            rank.end()
        return message["times"]


def measure(name, row, options, directory):
    told = ROWS[row]
    shape = dict(train.SHAPES[name], threads=options.threads, precision="fp32")
    shape["data"] = str(train.write_data(shape, directory))
    if row == "pipeline":
        shape.update(micro_batches=told["knobs"]["micro_batches"], first_blocks=first_blocks(shape))
    saturn = SaturnGroup(options.saturn, shape, directory, told.get("technique", row), told["knobs"], options.ranks)
    saturn.block(1)  # starts, then stands still
    peer = PeerGroup(told["peer"], shape, options.ranks)
    steps = shape["steps"]
    for group in (saturn, peer):
        group.block(max(3, steps // 2))  # warm
    ours_s, peers_s = [], []
    for pair in range(options.pairs):
        for group, seconds in ((saturn, ours_s), (peer, peers_s))[::1 if pair % 2 == 0 else -1]:
            seconds.append(group.block(steps))
    peer.end()
    times = saturn.finish()
    ratios = [theirs / ours for theirs, ours in zip(peers_s, ours_s)]
    low, high = train.interval_of(ratios)
    median = statistics.median(ratios)
    tokens = shape["batch_size"] * shape["sequence_length"]
    all_s, exposed_s = times.get("communication_s", 0.0), times.get("communication_exposed_s", 0.0)
    return dict(shape=name, row=row, threads=options.threads, ranks=options.ranks, pairs=options.pairs,
                saturn_tokens_per_s=tokens / statistics.median(ours_s),
                peer_tokens_per_s=tokens / statistics.median(peers_s), median=median, low=low, high=high,
                aim=told["aim"], reached=high >= 1.0 and median >= train.PARITY_MEDIAN,
                communication_s=all_s, overlapped=max(0.0, 1.0 - exposed_s / all_s) if all_s > 0 else None)


def measure_death(options, directory):
    """Seconds from SIGKILL of the last rank to the end of all others, of each technique of the rows."""
    ended_s = {}
    for row in options.rows.split(","):
        told = ROWS[row]
        shape = dict(train.SHAPES["toy"], threads=options.threads, precision="fp32")
        shape["data"] = str(train.write_data(shape, directory))
        group = SaturnGroup(options.saturn, shape, directory, told.get("technique", row), told["knobs"], options.ranks)
        group.block(2)
        for rank in group.ranks:
            os.kill(rank.process.pid, signal.SIGCONT)
        group.ranks[0].wait_for_step()
        group.ranks[-1].process.kill()
        begin = time.monotonic()
        for rank in group.ranks[:-1]:
            rank.process.wait(timeout=60)
        ended_s[row] = time.monotonic() - begin
    return ended_s


def main():
    options = parse_arguments()
    if "pipeline" in options.rows.split(",") and options.ranks != 2:
        sys.exit("the row pipeline is of two stages: leave --ranks out")
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
          f"{options.ranks} processes of {options.threads} threads, {options.pairs} pairs, fp32")
    print(f"{'shape':<7}{'technique':<12}{'saturn tok/s':>13}  {'against':<20}{'tok/s':>8}{'ratio':>7}  interval"
          f"{'':<6}{'aim':>4}  overlapped")
    results = []
    for name in options.shapes.split(","):
        for row in options.rows.split(","):
            with tempfile.TemporaryDirectory(prefix="saturn-bench-") as directory:
                result = measure(name, row, options, directory)
            results.append(result)
            overlapped = "-" if result["overlapped"] is None else f"{result['overlapped']:.0%}"
            print(f"{name:<7}{row:<12}{result['saturn_tokens_per_s']:>13.0f}  {ROWS[row]['against']:<20}"
                  f"{result['peer_tokens_per_s']:>8.0f}{result['median']:>7.2f}  "
                  f"{result['low']:.2f} .. {result['high']:.2f}{'':<2}{result['aim']:>4.1f}  {overlapped:>10}"
                  f"{'' if result['reached'] else '  NOT REACHED'}", flush=True)
    with tempfile.TemporaryDirectory(prefix="saturn-bench-") as directory:
        deaths = measure_death(options, directory)
    for row, seconds in deaths.items():
        print(f"{row}: a rank was killed, and its peers ended {seconds:.2f} s later, at most {MOST_AFTER_DEATH_S} s"
              f"{'' if seconds <= MOST_AFTER_DEATH_S else '  NOT REACHED'}")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(dict(speed=results, after_death_s=deaths), indent=2) + "\n")
    reached = all(result["reached"] for result in results)
    return 0 if reached and max(deaths.values()) <= MOST_AFTER_DEATH_S else 1


if __name__ == "__main__":
    sys.exit(main())
