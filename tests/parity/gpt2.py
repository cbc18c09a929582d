"""GPT-2 against transformers."""

import torch
import transformers
from safetensors.torch import save_file

from common import path_in
from language_model import compare, compare_logits

CONFIGURATIONS = [
    dict(n_layer=2, n_head=2, n_embd=32, n_positions=24, vocab_size=61),
    dict(n_layer=1, n_head=3, n_embd=33, n_positions=17, vocab_size=100),  # odd heads, width without a factor 2
    dict(n_layer=3, n_head=4, n_embd=48, n_positions=40, vocab_size=257, n_inner=80),
    dict(n_layer=2, n_head=1, n_embd=16, n_positions=16, vocab_size=50, tie_word_embeddings=False),
    dict(n_layer=2, n_head=5, n_embd=40, n_positions=33, vocab_size=300, layer_norm_epsilon=1e-3),
    dict(n_layer=4, n_head=2, n_embd=24, n_positions=64, vocab_size=129, initializer_range=0.1),
]


def make_model(settings):
    config = transformers.GPT2Config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
                                     **settings)
    return transformers.GPT2LMHeadModel(config)


def store_bare(model, directory):
    """The same weights as files of the bare body have them: no prefix, masks beside the weights."""
    directory.mkdir()
    model.config.save_pretrained(directory)
    tensors = {name.removeprefix("transformer."): tensor.contiguous().clone()
               for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    tensors["h.0.attn.bias"] = torch.ones(1, 1, 4, 4, dtype=torch.bool)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


def compare_bare(checks, saturn, model, work):
    bare = path_in(work, "bare")
    store_bare(model, bare)
    compare_logits(checks, saturn, model, bare, work, seed=0)


def is_noise(name):
    """The bias of the keys moves every score of a query alike."""
    return name.endswith("attn.c_attn.bias")


compare(CONFIGURATIONS, make_model, is_noise, compare_bare)
