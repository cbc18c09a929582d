"""The peers of tools/bench_train: GPT-2 as a plain PyTorch module, models of text as transformers has them, and of
images as timm does.

Run as a server: reads a number of steps a line from stdin, trains so many, prints the seconds they took.
"""

import json
import sys
import time

import numpy
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.ln_1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.ln_2 = nn.LayerNorm(width)
        self.fc = nn.Linear(width, 4 * width)
        self.mlp_out = nn.Linear(4 * width, width)

    def forward(self, x):
        rows, tokens, width = x.shape
        parts = self.qkv(self.ln_1(x)).split(width, dim=2)
        q, k, v = (part.view(rows, tokens, self.heads, width // self.heads).transpose(1, 2) for part in parts)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attention_out(mixed.transpose(1, 2).reshape(rows, tokens, width))
        return x + self.mlp_out(functional.gelu(self.fc(self.ln_2(x)), approximate="tanh"))


class Plain(nn.Module):
    """What a person writes first: modules, SDPA, cross_entropy, tied head."""

    def __init__(self, shape):
        super().__init__()
        width = shape["width"]
        self.tokens = nn.Embedding(shape["vocabulary"], width)
        self.positions = nn.Embedding(shape["sequence_length"], width)
        self.blocks = nn.ModuleList(Block(width, shape["heads"]) for _ in range(shape["layers"]))
        self.norm = nn.LayerNorm(width)
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, 0.0, 0.02)

    def forward(self, inputs, targets):
        x = self.tokens(inputs) + self.positions(torch.arange(inputs.shape[1], device=inputs.device))
        for block in self.blocks:
            x = block(x)
        logits = functional.linear(self.norm(x), self.tokens.weight)
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


class Transformers(nn.Module):
    def __init__(self, shape):
        super().__init__()
        import transformers

        sizes = shape.get("sizes", shape)
        common = dict(vocab_size=shape["vocabulary"], use_cache=False, bos_token_id=0, eos_token_id=0)
        family = shape.get("family", "gpt2")
        if family == "llama":
            config = transformers.LlamaConfig(
                hidden_size=sizes["width"], num_hidden_layers=sizes["layers"], num_attention_heads=sizes["heads"],
                num_key_value_heads=sizes["kv_heads"], intermediate_size=sizes["feed_forward"],
                max_position_embeddings=shape["sequence_length"], **common)
        else:
            common.update(n_positions=shape["sequence_length"], n_embd=sizes["width"], n_layer=sizes["layers"],
                          n_head=sizes["heads"], resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
            config = (transformers.GPTJConfig(rotary_dim=sizes["rotary_size"], **common) if family == "gptj"
                      else transformers.GPT2Config(**common))
        self.model = transformers.AutoModelForCausalLM.from_config(config).train()

    def forward(self, inputs, targets):
        return self.model(input_ids=inputs, labels=inputs).loss


class Timm(nn.Module):
    def __init__(self, shape):
        super().__init__()
        import timm

        sizes = shape["sizes"]
        if shape["family"] == "vit":
            self.model = timm.create_model("vit_base_patch16_224", img_size=shape["image_size"],
                                           patch_size=sizes["patch_size"], embed_dim=sizes["width"],
                                           depth=sizes["layers"], num_heads=sizes["heads"], num_classes=shape["classes"],
                                           mlp_ratio=sizes.get("feed_forward", 4 * sizes["width"]) / sizes["width"])
        elif "blocks" in sizes:
            self.model = timm.create_model("resnet50", layers=sizes["blocks"], num_classes=shape["classes"])
        else:
            self.model = timm.create_model("resnet18", num_classes=shape["classes"])

    def forward(self, inputs, targets):
        return functional.cross_entropy(self.model(inputs), targets)


def text_batches(shape):
    """(inputs, targets) of a step: a window of the file."""
    dtype = numpy.uint8 if shape["vocabulary"] == 256 else numpy.uint16
    data = numpy.memmap(shape["data"], dtype=dtype, mode="r")
    rows, tokens = shape["batch_size"], shape["sequence_length"]

    def batch(step):
        first = step * rows * tokens % (len(data) - rows * tokens - 1)
        window = torch.from_numpy(data[first:first + rows * tokens + 1].astype(numpy.int64))
        return window[:-1].view(rows, tokens), window[1:].view(rows, tokens)

    return batch


def image_batches(shape):
    """Likewise, of images that are in memory."""
    rows, side = shape["batch_size"], shape["image_size"]
    pixels = [torch.randn(rows, 3, side, side) for _ in range(4)]
    classes = [torch.randint(0, shape["classes"], (rows,)) for _ in range(4)]
    return lambda step: (pixels[step % 4], classes[step % 4])


def make_model(peer, shape):
    """`eager` and `compiled` are the plain module, or the one of another family's own library."""
    if peer in ("eager", "compiled"):
        peer = shape.get("eager", "plain")
    return {"plain": Plain, "transformers": Transformers, "timm": Timm}[peer](shape).to(shape["device"])


def main():
    peer, shape = sys.argv[1], json.loads(sys.argv[2])
    torch.set_num_threads(shape["threads"])
    torch.manual_seed(0)
    device = shape["device"]
    if device == "cuda":
        torch.set_float32_matmul_precision("high")
    model = make_model(peer, shape)
    if shape.get("family") == "resnet" and device == "cuda":
        torch.backends.cudnn.benchmark = True
        model = model.to(memory_format=torch.channels_last)
    step_of = torch.compile(model) if peer == "compiled" else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    batch = image_batches(shape) if "image_size" in shape else text_batches(shape)
    print("ready", flush=True)
    step = 0
    for line in sys.stdin:
        count = int(line)
        begin = time.perf_counter()
        for _ in range(count):
            inputs, targets = (part.to(device, non_blocking=True) for part in batch(step))
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device, torch.bfloat16, enabled=shape["precision"] == "bf16"):
                loss = step_of(inputs, targets)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            loss.item()
            step += 1
        print(time.perf_counter() - begin, flush=True)
    memory_bytes = torch.cuda.max_memory_reserved() if device == "cuda" else None
    # Of the plain module's step: those of a compiled one are the same, and hidden in its kernels.
    with FlopCounterMode(display=False) as counter:
        model(inputs, targets).backward()
    print(json.dumps({"flops": counter.get_total_flops(), "memory_bytes": memory_bytes}), flush=True)


if __name__ == "__main__":
    main()
