"""Alternates blocks of training steps between saturn and its peers, and prints ratios of tokens (or images) per second.

Every competitor is a live process. One works at a time: peers wait on a pipe, and the worker, which trains on by
itself, is stopped by SIGSTOP between its blocks; the step a stop fell into is not counted. A ratio is formed within
each round, so that what the machine does meanwhile meets both sides; the order changes from round to round. The
interval is that of order statistics that holds the median with at least 95 % (of 7 pairs: smallest to largest).
"""

import argparse
import ctypes
import json
import math
import os
import pathlib
import platform
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time

def of_text(family, sizes):
    return dict(model="model.toml", family=family, sizes=dict(sizes, longest_sequence=128), vocabulary=8192,
                sequence_length=128, batch_size=8, steps=4, eager="transformers", must=1.0, aim=1.1)


def of_images(family, sizes):
    return dict(model="model.toml", family=family, sizes=sizes, image_size=64, classes=10, batch_size=16, steps=4,
                eager="timm", must=1.0, aim=1.1)


SHAPES = {
    # steps: of a block; must: least median over the peer; aim: likewise, of gpt2's over plain
    "toy": dict(model="gpt2-toy", layers=2, width=64, heads=4, vocabulary=256, sequence_length=128, batch_size=8,
                steps=40, aim=1.5),
    "small": dict(model="gpt2-mini", layers=4, width=256, heads=8, vocabulary=50257, sequence_length=128,
                  batch_size=8, steps=4, aim=1.2),
    "gpt2": dict(model="gpt2", layers=12, width=768, heads=12, vocabulary=50257, sequence_length=256, batch_size=4,
                 steps=2, aim=1.3),
    "gptj": of_text("gptj", dict(layers=4, heads=8, width=256, rotary_size=32)),
    "llama": of_text("llama", dict(layers=4, heads=8, kv_heads=4, width=256, feed_forward=704)),
    "vit": of_images("vit", dict(layers=6, heads=3, width=192, patch_size=8)),
    "resnet": of_images("resnet", dict(blocks_1=2, blocks_2=2, blocks_3=2, blocks_4=2, bottleneck=False)),
}
GPU_SHAPES = {
    # as published, at the batch that one large GPU holds without checkpointing activations
    "gpt2-124m": dict(model="gpt2", layers=12, width=768, heads=12, vocabulary=50257, sequence_length=1024,
                      batch_size=16, steps=20),
    "gpt2-1.5b": dict(model="gpt2-xl", layers=48, width=1600, heads=25, vocabulary=50257, sequence_length=1024,
                      batch_size=8, steps=6),
    "llama-1b": dict(model="llama3.2-1b", family="llama", sequence_length=2048, batch_size=4, steps=8, vocabulary=128256,
                     sizes=dict(layers=16, heads=32, kv_heads=8, width=2048, feed_forward=8192), preset=True,
                     eager="transformers"),
    "llama-3b": dict(model="llama3.2-3b", family="llama", sequence_length=2048, batch_size=2, steps=6, vocabulary=128256,
                     sizes=dict(layers=28, heads=24, kv_heads=8, width=3072, feed_forward=8192), preset=True,
                     eager="transformers"),
    "vit-g": dict(model="vit-g14", family="vit", image_size=224, classes=1000, batch_size=32, steps=6, preset=True,
                  sizes=dict(layers=48, heads=16, width=1664, feed_forward=8192, patch_size=14), eager="timm"),
    "resnet-200": dict(model="resnet200", family="resnet", image_size=224, classes=1000, batch_size=128, steps=8,
                       preset=True, sizes=dict(blocks=[3, 24, 36, 3]), eager="timm"),
}
GPU_MUST = {"eager": (1.15, 1.25), "compiled": (0.95, 1.05)}  # ratio that must be reached, and the aim
PEAK_FLOPS = {"H200": 989e12, "H100": 989e12, "A100": 312e12}  # bf16, dense, as NVIDIA publishes them
MUST_OVER = {"plain": 1.0, "eager": 1.0, "transformers": 1.1, "compiled": 0.95}  # of gpt2
PARITY_MEDIAN = 0.97  # parity: the interval reaches the ratio asked for and the median is at least this part of it


def parse_arguments():
    parser = argparse.ArgumentParser(prog="tools/bench_train", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--saturn", default="build/release/saturn", help="the executable")
    parser.add_argument("--device", default="cpu", choices=["cpu", "gpu"], help="[default: cpu]")
    parser.add_argument("--shapes", help=f"on cores of {', '.join(SHAPES)} [default: those of GPT-2]; "
                        f"on a GPU of {', '.join(GPU_SHAPES)} [default: all]")
    parser.add_argument("--threads", help="thread counts [default: 1,2; on a GPU the cores]")
    parser.add_argument("--pairs", type=int, default=7, help="rounds, at least 7 to judge [default: 7]")
    parser.add_argument("--precision", choices=["fp32", "bf16"], help="[default: fp32; on a GPU bf16]")
    parser.add_argument("--peers", help="[default: plain,transformers; of other models than GPT-2 the one they have; "
                        "on a GPU eager,compiled]")
    parser.add_argument("--json", help="also write the figures to this file")
    options = parser.parse_args()
    on_gpu = options.device == "gpu"
    options.shapes = options.shapes or (",".join(GPU_SHAPES) if on_gpu else "toy,small,gpt2")
    options.threads = options.threads or (str(os.cpu_count()) if on_gpu else "1,2")
    options.precision = options.precision or ("bf16" if on_gpu else "fp32")
    for name in options.shapes.split(","):
        if name not in (GPU_SHAPES if on_gpu else SHAPES):
            parser.error(f"there is no shape {name} for the {options.device}")
    return options


def peers_of(name, shape, options):
    """Those asked for, else those that the shape is judged by."""
    own = [shape["eager"]] if "eager" in shape else ["plain", "transformers"]
    if options.peers is None:
        return ["eager", "compiled"] if options.device == "gpu" else own
    peers = options.peers.split(",")
    for peer in peers:
        if peer not in own + ["eager", "compiled"]:
            sys.exit(f"error: {name} has no peer {peer}\n  expected: some of {', '.join(own)}, eager, compiled")
    return peers


def gpu_of(executable):
    """The first GPU as a device of a plan."""
    told = json.loads(subprocess.run([executable, "worker", "--probe"], capture_output=True, check=True).stdout)
    if not told["usable"]:
        sys.exit(f"error: {told['reason']}\n  expected: a GPU and the build for it\n  fix: saturn devices")
    gpu = told["gpus"][0]
    return dict(index=0, kind="gpu", device_class=gpu["name"].lower(), memory_bytes=gpu["memory_bytes"], cores=[],
                threads=os.cpu_count(), gpu_index=gpu["index"], gpu_uuid=gpu["uuid"], share=0, num_shares=1)


def write_images(shape, directory):
    """A few files, so that Saturn's decoding beside its steps costs what it must; peers have theirs in memory."""
    import numpy
    import PIL.Image

    generator = numpy.random.default_rng(0)
    for index in range(20 * shape["classes"]):
        folder = pathlib.Path(directory, "data", str(index % shape["classes"]))
        folder.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (shape["image_size"], shape["image_size"], 3), dtype=numpy.uint8)
        PIL.Image.fromarray(pixels).save(folder / f"{index:04}.png")
    return pathlib.Path(directory, "data")


def write_data(shape, directory):
    """Tokens that repeat a little, as text does; enough for every block."""
    import numpy

    if "image_size" in shape:
        return write_images(shape, directory)
    tokens = max(1_000_000, 4 * shape["batch_size"] * shape["sequence_length"])
    rank = numpy.random.default_rng(0).zipf(1.2, tokens) % shape["vocabulary"]
    path = pathlib.Path(directory, "data.bin")
    rank.astype(numpy.uint8 if shape["vocabulary"] == 256 else numpy.uint16).tofile(path)
    return path


def die_with_parent():
    """A stopped worker would never see that this script is gone."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Peer:
    def __init__(self, name, shape):
        server = pathlib.Path(__file__).with_name("peers.py")
        environment = dict(os.environ, OMP_NUM_THREADS=str(shape["threads"]))
        self.process = subprocess.Popen([sys.executable, server, name, json.dumps(shape)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, env=environment,
                                        preexec_fn=die_with_parent)
        self.flops = self.memory_bytes = None
        if self.process.stdout.readline().strip() != "ready":
            sys.exit(f"the peer {name} did not start")

    def block(self, steps):
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline()) / steps

    def end(self):
        self.process.stdin.close()
        last = json.loads(self.process.stdout.readline())
        self.flops, self.memory_bytes = last["flops"], last["memory_bytes"]
        self.process.wait()


class SaturnWorker:
    """`saturn worker` with this script as its controller (include/saturn/worker/messages.h)."""

    def __init__(self, executable, shape, directory):
        ours, theirs = socket.socketpair()
        self.socket = ours
        self.process = subprocess.Popen([executable, "worker", "--fd", str(theirs.fileno())],
                                        pass_fds=[theirs.fileno()], stderr=subprocess.PIPE,
                                        preexec_fn=die_with_parent)
        theirs.close()
        self.send(self.assignment(executable, shape, directory))
        self.memory_bytes = None

    @staticmethod
    def assignment(executable, shape, directory):
        batch = pathlib.Path(directory, "bench.toml")
        if "sizes" in shape and not shape.get("preset"):
            lines = [f"{key} = {json.dumps(value)}" for key, value in dict(family=shape["family"], **shape["sizes"]).items()]
            pathlib.Path(directory, "model.toml").write_text("\n".join(lines) + "\n")
        if "image_size" in shape:
            data = f'kind = "images"\nimage_size = {shape["image_size"]}\nvalidation = 0.0'
        elif shape["vocabulary"] == 256:
            data = f'kind = "text"\nsequence_length = {shape["sequence_length"]}'
        else:
            data = (f'kind = "tokens"\nvocabulary_size = {shape["vocabulary"]}\n'
                    f'sequence_length = {shape["sequence_length"]}')
        batch.write_text(f"""
[batch]
name = "bench"
[data.bench]
{data}
path = "{shape['data']}"
[[job]]
name = "bench"
model = "{shape['model']}"
data = "bench"
steps = 1000000
batch_size = {shape['batch_size']}
precision = "{shape['precision']}"
[job.optimizer]
lr = 1e-4
weight_decay = 0.01
clip_norm = 1.0
""")
        told = subprocess.run([executable, "validate", batch, "--json"], capture_output=True, text=True)
        if told.returncode != 0:
            sys.exit(told.stderr)
        document = json.loads(told.stdout)
        job, data = document["jobs"][0], document["data"][0]
        for key in ("steps", "job_class", "at"):
            job.pop(key, None)
        job["model"].pop("num_parameters", None)
        for key in ("num_training_samples", "num_validation_samples"):
            data.pop(key, None)
        device = shape.get("gpu") or dict(index=0, kind="cpu", device_class="cpu", memory_bytes=0, cores=[],
                                          threads=shape["threads"])
        return dict(
            type="assign", job=job, data=data, rank=0, num_ranks=1, node="local", devices=[device], cores=[],
            configuration=dict(technique="single", num_devices=1, num_ranks=1, device_class=device["device_class"],
                               knobs={}),
            threads=shape["threads"], memory_limit_bytes=0, mode="train", job_directory=str(directory),
            rendezvous=dict(host="127.0.0.1", port=0, listen_fd=-1, key="", timeout_s=60),
            log_path=str(pathlib.Path(directory, "log.txt")), resume_from="", from_step=0, to_step=1000000,
            warmup_steps=0, trial_steps=0, checkpoint_every=0, keep_checkpoints=1, evaluate_at=[],
            max_skipped_steps=0, num_skipped_steps=0, log_every=1, seed=0)

    def send(self, message):
        text = json.dumps(message).encode()
        self.socket.sendall(struct.pack("<I", len(text)) + text)

    def receive(self):
        def exactly(count):
            got = b""
            while len(got) < count:
                piece = self.socket.recv(count - len(got))
                if not piece:
                    sys.exit("saturn worker ended: " + self.process.stderr.read().decode())
                got += piece
            return got

        message = json.loads(exactly(struct.unpack("<I", exactly(4))[0]))
        if message["type"] == "error":
            sys.exit(f"saturn worker: {message}")
        return message

    def wait_for_step(self):
        while self.receive()["type"] != "step":
            pass
        return time.perf_counter()

    def block(self, steps):
        os.kill(self.process.pid, signal.SIGCONT)
        begin = self.wait_for_step()  # the step that the stop fell into ends here
        for _ in range(steps):
            end = self.wait_for_step()
        os.kill(self.process.pid, signal.SIGSTOP)
        self.drain()
        return (end - begin) / steps

    def drain(self):
        """Takes what was sent between the last step and the stop."""
        self.socket.settimeout(0.05)
        try:
            while True:
                self.receive()
        except TimeoutError:
            pass
        self.socket.settimeout(None)

    def end(self):
        """Asks for the end, which tells the memory, too."""
        os.kill(self.process.pid, signal.SIGCONT)
        self.send(dict(type="end"))
        message = self.receive()
        while message["type"] != "finished":
            message = self.receive()
        self.memory_bytes = message["memory_peak_bytes"]
        self.process.kill()
        self.process.wait()


def interval_of(values):
    """Smallest order-statistic interval around the median with coverage of at least 95 %, else all values."""
    ordered = sorted(values)
    count = len(ordered)
    best = (ordered[0], ordered[-1])
    for k in range(1, count // 2 + 1):
        outside = 2 * sum(math.comb(count, i) for i in range(k)) / 2**count
        if 1 - outside >= 0.95:
            best = (ordered[k - 1], ordered[count - k])
    return best


def measure(name, threads, options, directory):
    on_gpu = options.device == "gpu"
    shape = dict((GPU_SHAPES if on_gpu else SHAPES)[name], threads=threads, precision=options.precision,
                 device="cuda" if on_gpu else "cpu", gpu=gpu_of(options.saturn) if on_gpu else None)
    shape["data"] = str(write_data(shape, directory))
    peers = peers_of(name, shape, options)
    competitors = {"saturn": SaturnWorker(options.saturn, shape, directory)}
    competitors["saturn"].block(1)  # starts, then stands still
    competitors.update({peer: Peer(peer, shape) for peer in peers})
    seconds = {competitor: [] for competitor in competitors}
    for competitor in competitors.values():
        competitor.block(max(2, shape["steps"] // 2))  # warm
    order = list(competitors)
    for pair in range(options.pairs):
        for competitor in order if pair % 2 == 0 else reversed(order):
            seconds[competitor].append(competitors[competitor].block(shape["steps"]))
    for competitor in competitors.values():
        competitor.end()
    tokens = shape["batch_size"] * shape.get("sequence_length", 1)  # or images
    flops = next((competitors[peer].flops for peer in peers if competitors[peer].flops), None)
    result = dict(shape=name, threads=threads, precision=options.precision, pairs=options.pairs,
                  tokens_per_s={c: tokens / statistics.median(s) for c, s in seconds.items()}, ratios={},
                  flops_per_s={c: flops / statistics.median(s) for c, s in seconds.items()} if flops else {},
                  memory_bytes={name: c.memory_bytes for name, c in competitors.items()})
    if on_gpu:
        result["gpu"] = shape["gpu"]["device_class"]
    for peer in peers:
        ratios = [peer_s / ours_s for peer_s, ours_s in zip(seconds[peer], seconds["saturn"])]
        low, high = interval_of(ratios)
        median = statistics.median(ratios)
        must, aim = GPU_MUST[peer] if on_gpu else (shape.get("must", MUST_OVER.get(peer)), shape.get("aim"))
        result["ratios"][peer] = dict(median=median, low=low, high=high, must=must,
                                      reached=high >= must and median >= PARITY_MEDIAN * must,
                                      aim=aim if on_gpu or peer == "plain" or "eager" in shape else None)
    return result


def print_use(result):
    """Model FLOP/s (counted by torch in the peer's step), their share of the GPU's, and peak memory."""
    peak = next((peak for name, peak in PEAK_FLOPS.items() if name.lower() in result.get("gpu", "")), None)
    for competitor, flops_per_s in result["flops_per_s"].items():
        share = f", MFU {100 * flops_per_s / peak:.1f} %" if peak and result["precision"] == "bf16" else ""
        memory = result["memory_bytes"][competitor]
        print(f"{'':<7}{competitor}: {flops_per_s / 1e12:.3g} TFLOP/s{share}"
              + (f", {memory / 2**30:.2f} GiB at most" if memory else ""), flush=True)


def main():
    options = parse_arguments()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
          f"{options.pairs} pairs, {options.precision}")
    print(f"{'shape':<7}{'threads':>8}{'saturn /s':>14}  {'against':<13}{'/s':>9}{'ratio':>7}  interval"
          f"{'':<7}{'must':>5}{'aim':>5}")
    results = []
    for name in options.shapes.split(","):
        for threads in map(int, options.threads.split(",")):
            with tempfile.TemporaryDirectory(prefix="saturn-bench-") as directory:
                result = measure(name, threads, options, directory)
            results.append(result)
            for peer, ratio in result["ratios"].items():
                print(f"{name:<7}{threads:>8}{result['tokens_per_s']['saturn']:>14.0f}  {peer:<13}"
                      f"{result['tokens_per_s'][peer]:>9.0f}{ratio['median']:>7.2f}  "
                      f"{ratio['low']:.2f} .. {ratio['high']:.2f}{'':<2}{ratio['must']:>5.2f}"
                      f"{ratio['aim'] or '-':>5}{'' if ratio['reached'] else '  NOT REACHED'}", flush=True)
            print_use(result)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(results, indent=2) + "\n")
    return 0 if all(r["reached"] for result in results for r in result["ratios"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
