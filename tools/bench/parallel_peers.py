"""One rank of a peer of tools/bench_parallel: the plain module of peers.py under DDP, fully_shard or 1F1B, over Gloo.

    parallel_peers.py ddp|fsdp|pipeline SHAPE RANK NUM_RANKS PORT

Run as a server on every rank: reads a number of steps a line from stdin, trains so many, prints the seconds they took.
"""

import json
import sys
import time

import numpy
import torch
import torch.distributed
from torch import nn
from torch.nn import functional

from peers import Plain


class FirstStage(nn.Module):
    def __init__(self, whole, num_blocks):
        super().__init__()
        self.tokens, self.positions, self.blocks = whole.tokens, whole.positions, whole.blocks[:num_blocks]

    def forward(self, inputs):
        x = self.tokens(inputs) + self.positions(torch.arange(inputs.shape[1]))
        for block in self.blocks:
            x = block(x)
        return x


class LastStage(nn.Module):
    """Its head is a table of its own: the library ties no weights across stages."""

    def __init__(self, whole, num_blocks):
        super().__init__()
        self.blocks, self.norm = whole.blocks[num_blocks:], whole.norm
        self.head = nn.Parameter(whole.tokens.weight.detach().clone())

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return functional.linear(self.norm(x), self.head)


class Pipeline:
    """Two stages under 1F1B; every rank is given the whole batch."""

    shares = 1

    def __init__(self, shape, rank):
        from torch.distributed.pipelining import PipelineStage, Schedule1F1B

        self.is_first = rank == 0
        self.module = (FirstStage if self.is_first else LastStage)(Plain(shape), shape["first_blocks"])
        self.schedule = Schedule1F1B(PipelineStage(self.module, rank, 2, torch.device("cpu")),
                                     n_microbatches=shape["micro_batches"], loss_fn=self.loss_of)

    @staticmethod
    def loss_of(logits, targets):
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def accumulate(self, inputs, targets):
        losses = []
        if self.is_first:
            self.schedule.step(inputs)
        else:
            self.schedule.step(target=targets, losses=losses)
        return sum(loss.item() for loss in losses)

    def clip(self):
        squares = sum(parameter.grad.square().sum() for parameter in self.module.parameters())
        torch.distributed.all_reduce(squares)
        scale = min(1.0, 1.0 / (squares.sqrt().item() + 1e-6))
        for parameter in self.module.parameters():
            parameter.grad.mul_(scale)


class Replica:
    """DDP or fully_shard: a share of the batch on every rank."""

    def __init__(self, shape, technique, num_ranks):
        self.shares = num_ranks
        self.module = wrapped(Plain(shape), technique)

    def accumulate(self, inputs, targets):
        loss = self.module(inputs, targets)
        loss.backward()
        return loss.item()

    def clip(self):
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)


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
    trained = Pipeline(shape, rank) if technique == "pipeline" else Replica(shape, technique, num_ranks)
    optimizer = torch.optim.AdamW(trained.module.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    dtype = numpy.uint8 if shape["vocabulary"] == 256 else numpy.uint16
    data = numpy.memmap(shape["data"], dtype=dtype, mode="r")
    rows, tokens = shape["batch_size"] // trained.shares, shape["sequence_length"]
    print("ready", flush=True)
    step = rank if trained.shares > 1 else 0
    for line in sys.stdin:
        count = int(line)
        torch.distributed.barrier()
        begin = time.perf_counter()
        for _ in range(count):
            first = step * rows * tokens % (len(data) - rows * tokens - 1)
            window = torch.from_numpy(data[first:first + rows * tokens + 1].astype(numpy.int64))
            inputs, targets = window[:-1].view(rows, tokens), window[1:].view(rows, tokens)
            optimizer.zero_grad(set_to_none=True)
            trained.accumulate(inputs, targets)
            trained.clip()
            optimizer.step()
            step += trained.shares
        torch.distributed.barrier()
        print(time.perf_counter() - begin, flush=True)


main()
