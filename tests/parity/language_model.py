"""A family of language models against transformers: logits, first gradients, the loss curve of AdamW, and the way
back. A family's script says how to make a random checkpoint; this runs it through Saturn and compares."""

import json

import numpy
import torch
from safetensors.torch import load_file, save_file

from common import Checks, arguments, path_in, run, run_json, temporary_directory

STEPS = 10

def make_checkpoint(model, seed, directory):
    with torch.no_grad():  # biases and norms that are not 0 and 1, so that a mix-up shows
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    # Small shards for one of the seeds, so that an index is read too.
    model.save_pretrained(directory, max_shard_size="20KB" if seed % 2 else "1GB")
    return model


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
    length = config.max_position_embeddings
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
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [{"params": [p for p in trained if p.dim() > 1], "weight_decay": weight_decay},
              {"params": [p for p in trained if p.dim() == 1], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr)
    losses, norms, gradients = [], [], {}
    for step, batch in enumerate(batches):
        optimizer.zero_grad()
        logits = model(batch[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        if step == 0:
            gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}
        limit = clip_norm if clip_norm > 0 else float("inf")
        norms.append(torch.nn.utils.clip_grad_norm_(trained, limit).item())
        losses.append(loss.item())
        optimizer.step()
    return torch.tensor(losses), torch.tensor(norms), gradients


def compare_training(checks, driver, saturn, model, directory, work, seed, is_noise):
    torch.manual_seed(2000 + seed)
    config = model.config
    batch = torch.randint(config.vocab_size, (6, config.max_position_embeddings + 1))
    batches = batch.repeat(STEPS, 1, 1).contiguous()  # one batch again and again: its loss must fall
    save_file({"batches": batches}, path_in(work, "batches.safetensors"))
    lr, weight_decay = 3e-3, 0.1
    clip_norm = 0.5 if seed % 2 else 0.0
    micro_batches = 1 + seed % 3
    saved = path_in(work, "saved")
    run(driver, directory, path_in(work, "batches.safetensors"), path_in(work, "out.safetensors"), saved,
        json.dumps(dict(lr=lr, weight_decay=weight_decay, clip_norm=clip_norm, micro_batches=micro_batches)))
    got = load_file(path_in(work, "out.safetensors"))
    losses, norms, gradients = train_reference(model, batches, lr, weight_decay, clip_norm)

    checks.holds(f"the loss falls from {losses[0]} to {losses[-1]}", losses[0] - losses[-1] >= 0.05)
    checks.close("losses", got["losses"], losses, 1e-4)
    checks.close("norms", got["norms"] / norms, torch.ones(STEPS), 1e-3)
    for name, want in gradients.items():
        difference = (got["gradient." + name] - want).norm().item()
        floor = 1e-6 if is_noise(name) else 0.0  # part of it has a true gradient of 0: what is there is rounding
        allowed = 1e-4 * want.norm().item() + floor
        checks.holds(f"gradient of {name}: differs by {difference:.3g}, allowed {allowed:.3g}", difference <= allowed)
    checks.holds("gradients are of the same parameters",
                 {"gradient." + name for name in gradients} == {n for n in got if n.startswith("gradient.")})

    # The way back: transformers loads what was written, without a word, and both read it alike.
    loaded, notes = type(model).from_pretrained(saved, output_loading_info=True)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        checks.holds(f"{kind}: {notes[kind]}", not notes[kind])
    tokens = torch.randint(config.vocab_size, (3 * config.max_position_embeddings,))
    logits, _ = logits_of(saturn, saved, tokens, config.max_position_embeddings, work)
    with torch.no_grad():
        checks.close("logits of the trained model, loaded by transformers", logits,
                     loaded(tokens.view(3, -1)).logits, 1e-4)
        checks.close("logits of both trained models", logits, model(tokens.view(3, -1)).logits, 2e-2)


def compare(configurations, make_model, is_noise=lambda name: False, more=lambda checks, saturn, model, work: None):
    """`make_model(settings)` is a random model of transformers; `more` may compare further on the first one."""
    options = arguments()
    checks = Checks()
    for seed, settings in enumerate(configurations):
        checks.case = f"configuration {seed} {settings}"
        with temporary_directory() as work:
            directory = path_in(work, "checkpoint")
            torch.manual_seed(seed)
            model = make_checkpoint(make_model(settings), seed, directory)
            compare_logits(checks, options.saturn, model, directory, work, seed)
            if seed == 0:
                more(checks, options.saturn, model, work)
            compare_training(checks, options.driver, options.saturn, model, directory, work, seed, is_noise)
    checks.end()
