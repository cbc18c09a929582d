"""GPT-2 against transformers: logits, first gradients, the loss curve of AdamW, and the way back.

Each configuration makes a random checkpoint with transformers, runs it through Saturn, and compares.
"""

import numpy
import torch
import transformers
from safetensors.torch import load_file, save_file

from common import Checks, arguments, path_in, run, run_json, temporary_directory

STEPS = 10
CONFIGURATIONS = [
    dict(n_layer=2, n_head=2, n_embd=32, n_positions=24, vocab_size=61),
    dict(n_layer=1, n_head=3, n_embd=33, n_positions=17, vocab_size=100),  # odd heads, width without a factor 2
    dict(n_layer=3, n_head=4, n_embd=48, n_positions=40, vocab_size=257, n_inner=80),
    dict(n_layer=2, n_head=1, n_embd=16, n_positions=16, vocab_size=50, tie_word_embeddings=False),
    dict(n_layer=2, n_head=5, n_embd=40, n_positions=33, vocab_size=300, layer_norm_epsilon=1e-3),
    dict(n_layer=4, n_head=2, n_embd=24, n_positions=64, vocab_size=129, initializer_range=0.1),
]


def make_checkpoint(settings, seed, directory):
    torch.manual_seed(seed)
    config = transformers.GPT2Config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
                                     **settings)
    model = transformers.GPT2LMHeadModel(config)
    with torch.no_grad():  # biases and norms that are not 0 and 1, so that a mix-up shows
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    # Small shards for one of the seeds, so that an index is read too.
    model.save_pretrained(directory, max_shard_size="20KB" if seed % 2 else "1GB")
    return model


def store_bare(model, directory):
    """The same weights as files of the bare body have them: no prefix, masks beside the weights."""
    directory.mkdir()
    model.config.save_pretrained(directory)
    tensors = {name.removeprefix("transformer."): tensor.contiguous().clone()
               for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    tensors["h.0.attn.bias"] = torch.ones(1, 1, 4, 4, dtype=torch.bool)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


def logits_of(saturn, directory, tokens, length, work):
    shard = path_in(work, "tokens.bin")
    tokens.numpy().astype(numpy.uint16).tofile(shard)
    out = path_in(work, "logits.safetensors")
    told = run_json(saturn, "eval", directory, "--tokens", shard, "--sequence-length", length, "--logits", out,
                    "--json")
    return load_file(out)["logits"], told


def compare_logits(checks, saturn, model, directory, work, seed):
    torch.manual_seed(1000 + seed)
    config = model.config
    length = config.n_positions
    tokens = torch.randint(config.vocab_size, (5 * length + length // 2,))
    got, told = logits_of(saturn, directory, tokens, length, work)
    with torch.no_grad():
        want = model(tokens[: 5 * length].view(5, length)).logits
        losses = []
        for first in range(0, len(tokens), length):
            window = tokens[first:first + length + 1]
            losses.append(torch.nn.functional.cross_entropy(model(window[:-1].view(1, -1)).logits[0], window[1:],
                                                            reduction="sum"))
    checks.close("logits", got, want, 1e-4)
    checks.holds(f"count {told['count']}, expected {len(tokens) - 1}", told["count"] == len(tokens) - 1)
    mean = sum(losses).item() / (len(tokens) - 1)
    checks.holds(f"loss {told['loss']}, expected {mean}", abs(told["loss"] - mean) <= 1e-4)


def train_reference(model, batches, lr, weight_decay, clip_norm):
    """Losses, first gradients and norms of torch's AdamW; matrices decay, vectors do not."""
    groups = [{"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": weight_decay},
              {"params": [p for p in model.parameters() if p.dim() == 1], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr)
    losses, norms, gradients = [], [], {}
    for step, batch in enumerate(batches):
        optimizer.zero_grad()
        logits = model(batch[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        if step == 0:
            gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
        limit = clip_norm if clip_norm > 0 else float("inf")
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), limit).item())
        losses.append(loss.item())
        optimizer.step()
    return torch.tensor(losses), torch.tensor(norms), gradients


def compare_training(checks, driver, saturn, model, directory, work, seed):
    torch.manual_seed(2000 + seed)
    config = model.config
    batch = torch.randint(config.vocab_size, (6, config.n_positions + 1))
    batches = batch.repeat(STEPS, 1, 1).contiguous()  # one batch again and again: its loss must fall
    save_file({"batches": batches}, path_in(work, "batches.safetensors"))
    lr, weight_decay = 3e-3, 0.1
    clip_norm = 0.5 if seed % 2 else 0.0
    micro_batches = 1 + seed % 3
    saved = path_in(work, "saved")
    run(driver, directory, path_in(work, "batches.safetensors"), path_in(work, "out.safetensors"), saved, lr,
        weight_decay, clip_norm, micro_batches)
    got = load_file(path_in(work, "out.safetensors"))
    losses, norms, gradients = train_reference(model, batches, lr, weight_decay, clip_norm)

    checks.holds(f"the loss falls from {losses[0]} to {losses[-1]}", losses[0] - losses[-1] >= 0.05)
    checks.close("losses", got["losses"], losses, 1e-4)
    checks.close("norms", got["norms"] / norms, torch.ones(STEPS), 1e-3)
    for name, want in gradients.items():
        difference = (got["gradient." + name] - want).norm().item()
        # The bias of the keys moves every score of a query alike: its true gradient is 0, what is there is rounding.
        floor = 1e-6 if name.endswith("attn.c_attn.bias") else 0.0
        allowed = 1e-4 * want.norm().item() + floor
        checks.holds(f"gradient of {name}: differs by {difference:.3g}, allowed {allowed:.3g}", difference <= allowed)
    checks.holds("gradients are of the same parameters",
                 {"gradient." + name for name in gradients} == {n for n in got if n.startswith("gradient.")})

    # The way back: transformers loads what was written, without a word, and both read it alike.
    loaded, notes = transformers.GPT2LMHeadModel.from_pretrained(saved, output_loading_info=True)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        checks.holds(f"{kind}: {notes[kind]}", not notes[kind])
    tokens = torch.randint(config.vocab_size, (3 * config.n_positions,))
    logits, _ = logits_of(saturn, saved, tokens, config.n_positions, work)
    with torch.no_grad():
        checks.close("logits of the trained model, loaded by transformers", logits,
                     loaded(tokens.view(3, -1)).logits, 1e-4)
        checks.close("logits of both trained models", logits, model(tokens.view(3, -1)).logits, 2e-2)


def main():
    options = arguments()
    checks = Checks()
    for seed, settings in enumerate(CONFIGURATIONS):
        checks.case = f"configuration {seed} {settings}"
        with temporary_directory() as work:
            directory = path_in(work, "checkpoint")
            model = make_checkpoint(settings, seed, directory)
            compare_logits(checks, options.saturn, model, directory, work, seed)
            if seed == 0:
                bare = path_in(work, "bare")
                store_bare(model, bare)
                compare_logits(checks, options.saturn, model, bare, work, seed)
            compare_training(checks, options.driver, options.saturn, model, directory, work, seed)
    checks.end()


main()
