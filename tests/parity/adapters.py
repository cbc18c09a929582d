"""LoRA adapters against the `peft` package: logits of the same base and adapter, the loss curve of AdamW over the
adapter alone, and the way back into peft."""

import json

import peft
import torch
import transformers
from safetensors.torch import load_file, save_file

from common import Checks, arguments, path_in, run, temporary_directory
from language_model import STEPS, logits_of, make_checkpoint, train_reference

NO_DROPOUT = dict(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0)


def gpt2(**settings):
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**NO_DROPOUT, **settings))


def gptj(**settings):
    return transformers.GPTJForCausalLM(transformers.GPTJConfig(**NO_DROPOUT, tie_word_embeddings=False, **settings))


def llama(**settings):
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(attention_dropout=0.0, bos_token_id=0,
                                                                  eos_token_id=0, **settings))


# The model, and what its adapters are; without targets both sides choose the family's usual ones.
CASES = [
    (lambda: gpt2(n_layer=2, n_head=2, n_embd=32, n_positions=24, vocab_size=61), dict(r=4, lora_alpha=8)),
    (lambda: gpt2(n_layer=1, n_head=3, n_embd=33, n_positions=17, vocab_size=100, n_inner=50, tie_word_embeddings=False),
     dict(r=3, lora_alpha=5, target_modules=["c_attn", "c_proj", "mlp.c_fc"])),
    (lambda: llama(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, hidden_size=32,
                   intermediate_size=48, vocab_size=70, max_position_embeddings=24), dict(r=4, lora_alpha=16)),
    (lambda: llama(num_hidden_layers=1, num_attention_heads=3, num_key_value_heads=1, hidden_size=36,
                   intermediate_size=50, vocab_size=90, max_position_embeddings=20, tie_word_embeddings=True),
     dict(r=2, lora_alpha=2, target_modules=["k_proj", "o_proj", "gate_proj", "up_proj", "down_proj"])),
    (lambda: gptj(n_layer=2, n_head=2, n_embd=32, n_positions=24, vocab_size=80, rotary_dim=4), dict(r=8, lora_alpha=8)),
    (lambda: gptj(n_layer=1, n_head=3, n_embd=36, n_positions=17, vocab_size=50, rotary_dim=12),
     dict(r=5, lora_alpha=10, target_modules=["out_proj", "fc_in", "fc_out"])),
]


def make_adapter(base, settings, directory):
    """Beside `base`, with both maps at random, so that it changes what the model computes."""
    fan_in_fan_out = base.config.model_type == "gpt2"
    model = peft.get_peft_model(base, peft.LoraConfig(task_type="CAUSAL_LM", fan_in_fan_out=fan_in_fan_out, **settings))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    model.save_pretrained(directory)
    return model


def lora_of(directory):
    """What a batch's [job.lora] comes to for an adapter that peft stored."""
    config = json.loads(path_in(directory, "adapter_config.json").read_text())
    return dict(rank=config["r"], alpha=config["lora_alpha"], targets=sorted(config["target_modules"]),
                start=str(directory))


def driven(options, work, checkpoint, batches, adapter, **settings):
    """Saturn's training; what it wrote, and where the merged model and the adapter are."""
    saved = path_in(work, f"saved-{settings['lr']}")
    save_file({"batches": batches}, path_in(work, "batches.safetensors"))
    run(options.driver, checkpoint, path_in(work, "batches.safetensors"), path_in(work, "out.safetensors"), saved,
        json.dumps(dict(lora=lora_of(adapter), **settings)))
    return load_file(path_in(work, "out.safetensors")), saved, saved.with_name(saved.name + "-adapter")


def logits_of_peft(model, tokens):
    with torch.no_grad():
        return model(tokens).logits


def compare(checks, options, make_base, settings, seed, work):
    torch.manual_seed(seed)
    checkpoint, adapter = path_in(work, "checkpoint"), path_in(work, "adapter")
    make_checkpoint(make_base(), seed, checkpoint)
    base = type(make_base()).from_pretrained(checkpoint)
    model = make_adapter(base, settings, adapter)
    length = base.config.max_position_embeddings
    torch.manual_seed(1000 + seed)
    tokens = torch.randint(base.config.vocab_size, (3 * length,))
    batch = torch.randint(base.config.vocab_size, (6, length + 1))
    batches = batch.repeat(STEPS, 1, 1).contiguous()

    # A step that moves nothing: what was read is written merged, and gives peft's logits.
    _, merged, written = driven(options, work, checkpoint, batches[:1].contiguous(), adapter, lr=0.0, weight_decay=0.0)
    logits, _ = logits_of(options.saturn, merged, tokens, length, work)
    want = logits_of_peft(model, tokens.view(3, -1))
    checks.close("logits of base and adapter", logits, want, 1e-4)
    plain = logits_of_peft(type(base).from_pretrained(checkpoint), tokens.view(3, -1))
    checks.holds("the adapter changes the logits", (want - plain).abs().max().item() > 1e-2)
    mine = load_file(path_in(written, "adapter_model.safetensors"))
    theirs = load_file(path_in(adapter, "adapter_model.safetensors"))
    checks.holds(f"tensors {sorted(mine)}, expected {sorted(theirs)}", sorted(mine) == sorted(theirs))
    for name, tensor in theirs.items():
        checks.holds(f"{name} is stored as it was read", name in mine and torch.equal(mine[name], tensor))

    # The same curve, over the adapter alone.
    clip_norm = 0.5 if seed % 2 else 0.0
    got, merged, written = driven(options, work, checkpoint, batches, adapter, lr=1e-2, weight_decay=0.1,
                                  clip_norm=clip_norm, micro_batches=1 + seed % 3)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    losses, norms, gradients = train_reference(model, batches, 1e-2, 0.1, clip_norm)
    checks.holds(f"the loss falls from {losses[0]} to {losses[-1]}", losses[0] - losses[-1] >= 0.05)
    checks.close("losses", got["losses"] / losses, torch.ones(STEPS), 1e-4)
    checks.close("norms", got["norms"] / norms, torch.ones(STEPS), 1e-3)
    checks.holds("gradients are of the adapter's maps alone",
                 sum(name.startswith("gradient.") for name in got) == len(trained))
    for name in trained:
        mine = got["gradient." + name.removeprefix("base_model.model.").replace(".default", "")]
        difference = (mine - gradients[name]).norm().item()
        allowed = 1e-4 * gradients[name].norm().item()
        checks.holds(f"gradient of {name}: differs by {difference:.3g}, allowed {allowed:.3g}", difference <= allowed)

    # The way back: peft loads what was written beside the base, transformers what was merged.
    loaded = peft.PeftModel.from_pretrained(type(base).from_pretrained(checkpoint), written)
    logits, _ = logits_of(options.saturn, merged, tokens, length, work)
    checks.close("logits of the adapter, loaded by peft", logits, logits_of_peft(loaded, tokens.view(3, -1)), 1e-4)
    whole = type(base).from_pretrained(merged)
    checks.close("logits of the merged model, loaded by transformers", logits,
                 logits_of_peft(whole, tokens.view(3, -1)), 1e-4)


options = arguments()
checks = Checks()
for seed, (make_base, settings) in enumerate(CASES):
    checks.case = f"case {seed} {settings}"
    with temporary_directory() as work:
        compare(checks, options, make_base, settings, seed, work)
checks.end()
