"""Saturn's readers against those that the ecosystem uses, on the same files with the same number of threads, in blocks that
alternate: JPEG images against torchvision's ImageFolder under a DataLoader, tokenising against Hugging Face's tokenizers,
safetensors into memory against the package.

Each side is a process that stands still (SIGSTOP) while the other works; a ratio is formed within each round, and the order
changes from round to round. Saturn's workers of images are threads of one process, the DataLoader's are processes.
"""

import argparse
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from train import PARITY_MEDIAN, die_with_parent, interval_of

ROWS = {
    # must and aim: of Saturn's speed over the peer's
    "images": dict(peer="torchvision", unit="images/s", must=1.2, aim=None),
    "tokens": dict(peer="tokenizers", unit="MB/s", must=1.0, aim=2.0),
    "safetensors": dict(peer="safetensors", unit="MB/s", must=1.0, aim=None),
}


def parse_arguments():
    parser = argparse.ArgumentParser(prog="tools/bench_data", description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--program", default="build/release/bench_data", help="the program of data.cpp")
    parser.add_argument("--rows", default=",".join(ROWS), help="[default: images,tokens,safetensors]")
    parser.add_argument("--threads", type=int, default=2, help="[default: 2]")
    parser.add_argument("--text", default=os.path.expanduser("~/.cache/saturn/data/kjv.txt"), help="[default: the set-up's]")
    parser.add_argument("--mib", type=int, default=2048, help="of the safetensors file [default: 2048]")
    parser.add_argument("--images", type=int, default=600, help="files [default: 600]")
    parser.add_argument("--side", type=int, default=500, help="of their longer side, as ImageNet's [default: 500]")
    parser.add_argument("--batches", type=int, default=8, help="of a block of images [default: 8]")
    parser.add_argument("--pairs", type=int, default=7, help="rounds, at least 7 to judge [default: 7]")
    return parser.parse_args()


def write_images(folder, count, side):
    """Photographs' smoothness and noise, 4:3 both ways, quality 90: about 60 kB each at 500 pixels."""
    import numpy
    import PIL.Image

    generator = numpy.random.default_rng(0)
    for index in range(count):
        height, width = (side, side * 3 // 4) if index % 2 else (side * 3 // 4, side)
        coarse = PIL.Image.fromarray(generator.integers(0, 256, (12, 16, 3), dtype=numpy.uint8))
        smooth = numpy.asarray(coarse.resize((width, height), PIL.Image.BICUBIC), dtype=numpy.float32)
        noise = generator.normal(0, 8, (height, width, 1)).astype(numpy.float32)
        pixels = numpy.clip(smooth + noise, 0, 255).astype(numpy.uint8)
        target = pathlib.Path(folder, f"class-{index % 10}")
        target.mkdir(exist_ok=True)
        PIL.Image.fromarray(pixels).save(target / f"{index:05}.jpg", quality=90)


def write_tokenizer(text, path):
    """Byte-level BPE with GPT-2's splitting, of 16384 tokens, learnt from the text itself."""
    import tokenizers

    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.train([text], tokenizers.trainers.BpeTrainer(
        vocab_size=16384, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    tokenizer.save(str(path))


class Server:
    """Reads a count a line, answers with the seconds it took. Stands still in between."""

    def __init__(self, command, threads):
        environment = dict(os.environ, OMP_NUM_THREADS=str(threads), RAYON_NUM_THREADS=str(threads))
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
                                        start_new_session=True, preexec_fn=die_with_parent)
        if self.process.stdout.readline().strip() != "ready":
            sys.exit(f"{' '.join(command)} did not start")

    def block(self, count):
        os.killpg(self.process.pid, signal.SIGCONT)
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        seconds = float(self.process.stdout.readline())
        os.killpg(self.process.pid, signal.SIGSTOP)
        return seconds / count

    def end(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def serve(once):
    print("ready", flush=True)
    for line in sys.stdin:
        begin = time.perf_counter()
        for _ in range(int(line)):
            once()
        print(time.perf_counter() - begin, flush=True)


def serve_images(folder, size, batch_size, threads):
    """Endless epochs, so that the workers go on as Saturn's do."""
    import torch
    import torchvision.transforms as transforms
    from torchvision.datasets import ImageFolder

    torch.set_num_threads(1)
    dataset = ImageFolder(folder, transforms.Compose([
        transforms.RandomResizedCrop(int(size)), transforms.RandomHorizontalFlip(), transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]))
    loader = torch.utils.data.DataLoader(dataset, batch_size=int(batch_size), shuffle=True, num_workers=int(threads),
                                         persistent_workers=True, prefetch_factor=2)

    def batches():
        while True:
            yield from loader

    source = batches()
    next(source)
    serve(lambda: next(source))


def serve_tokens(text, tokenizer, threads):
    """Lines in one call, which is how the package takes several threads."""
    import tokenizers

    loaded = tokenizers.Tokenizer.from_file(tokenizer)
    lines = pathlib.Path(text).read_text().splitlines(keepends=True)
    pieces = ["".join(lines[first:first + 256]) for first in range(0, len(lines), 256)]
    serve(lambda: [encoded.ids for encoded in loaded.encode_batch_fast(pieces, add_special_tokens=False)])


def serve_safetensors(path, threads):
    """The package maps the file: cloning brings the tensors into memory, as training needs them."""
    import torch
    from safetensors.torch import load_file

    torch.set_num_threads(int(threads))
    serve(lambda: [tensor.clone() for tensor in load_file(path).values()])


def prepare(row, options, folder):
    """Files, the words for both sides, the work of a block, and how much a unit of it is."""
    threads = str(options.threads)
    if row == "images":
        write_images(folder, options.images, options.side)
        return [folder, "224", "32", threads], options.batches, 32
    if row == "tokens":
        tokenizer = str(pathlib.Path(folder, "tokenizer.json"))
        write_tokenizer(options.text, tokenizer)
        return [options.text, tokenizer, threads], 1, os.path.getsize(options.text) / 1e6
    import torch
    from safetensors.torch import save_file

    path = str(pathlib.Path(folder, "model.safetensors"))
    count = max(1, options.mib // 16)
    save_file({f"layer.{index}.weight": torch.full((2048, 2048), float(index)) for index in range(count)}, path)
    return [path, threads], 1, os.path.getsize(path) / 1e6


def measure(row, options):
    what = ROWS[row]
    with tempfile.TemporaryDirectory(prefix="saturn-bench-") as folder:
        words, count, size = prepare(row, options, folder)
        servers = {"saturn": Server([options.program, row, *words], options.threads),
                   what["peer"]: Server([sys.executable, __file__, "--serve", row, *words], options.threads)}
        seconds = {name: [] for name in servers}
        for server in servers.values():
            server.block(count)  # warm: files in the cache, queues full
        for pair in range(options.pairs):
            for name in servers if pair % 2 == 0 else reversed(servers):
                seconds[name].append(servers[name].block(count))
        for server in servers.values():
            server.end()
    ratios = [theirs / ours for ours, theirs in zip(seconds["saturn"], seconds[what["peer"]])]
    low, high = interval_of(ratios)
    median = statistics.median(ratios)
    reached = high >= what["must"] and median >= PARITY_MEDIAN * what["must"]
    rates = {name: size / statistics.median(values) for name, values in seconds.items()}
    print(f"{row:<13}{rates['saturn']:>8.0f} {what['unit']:<10}{what['peer']:<13}{rates[what['peer']]:>8.0f}{median:>7.2f}  "
          f"{low:.2f} .. {high:.2f}  {what['must']:>4}{what['aim'] or '-':>5}{'' if reached else '  NOT REACHED'}", flush=True)
    return reached


def main():
    options = parse_arguments()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {options.threads} threads, {options.pairs} pairs")
    print(f"{'what':<13}{'saturn':>8} {'':<10}{'against':<13}{'peer':>8}{'ratio':>7}  {'interval':<14}{'must':>4}{'aim':>5}")
    return 0 if all([measure(row, options) for row in options.rows.split(",")]) else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        globals()["serve_" + sys.argv[2]](*sys.argv[3:])
    else:
        sys.exit(main())
