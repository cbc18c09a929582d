"""One rank of a peer of tools/bench_parallel: the plain module of peers.py under DDP or fully_shard, over Gloo.

    parallel_peers.py ddp|fsdp SHAPE RANK NUM_RANKS PORT

Run as a server on every rank: reads a number of steps a line from stdin, trains so many, prints the seconds they took.
"""

import json
import sys
import time

import numpy
import torch
import torch.distributed

from peers import Plain


def wrapped(model, technique):
    if technique == "ddp":
        return torch.nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)
    from torch.distributed.fsdp import fully_shard

    for block in model.blocks:
        fully_shard(block)
    return fully_shard(model)


def main():
    technique, shape = sys.argv[1], json.loads(sys.argv[2])
    rank, num_ranks, port = map(int, sys.argv[3:6])
    torch.set_num_threads(shape["threads"])
    torch.manual_seed(0)
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank,
                                         world_size=num_ranks)
    if technique == "fsdp":
        torch.distributed.init_device_mesh("cpu", (num_ranks,))
    model = wrapped(Plain(shape), technique)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    dtype = numpy.uint8 if shape["vocabulary"] == 256 else numpy.uint16
    data = numpy.memmap(shape["data"], dtype=dtype, mode="r")
    rows, tokens = shape["batch_size"] // num_ranks, shape["sequence_length"]
    print("ready", flush=True)
    step = rank
    for line in sys.stdin:
        count = int(line)
        torch.distributed.barrier()
        begin = time.perf_counter()
        for _ in range(count):
            first = step * rows * tokens % (len(data) - rows * tokens - 1)
            window = torch.from_numpy(data[first:first + rows * tokens + 1].astype(numpy.int64))
            inputs, targets = window[:-1].view(rows, tokens), window[1:].view(rows, tokens)
            optimizer.zero_grad(set_to_none=True)
            loss = model(inputs, targets)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            loss.item()
            step += num_ranks
        torch.distributed.barrier()
        print(time.perf_counter() - begin, flush=True)


main()
