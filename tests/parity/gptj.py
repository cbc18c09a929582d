"""GPT-J against transformers."""

import numpy
import tokenizers
import transformers

from common import path_in, run_json
from language_model import compare

CONFIGURATIONS = [
    dict(n_layer=2, n_head=2, n_embd=32, n_positions=24, vocab_size=300, rotary_dim=4),
    dict(n_layer=1, n_head=3, n_embd=36, n_positions=17, vocab_size=100, rotary_dim=12),  # all of each head
    dict(n_layer=3, n_head=4, n_embd=48, n_positions=40, vocab_size=257, n_inner=80, rotary_dim=6),
    dict(n_layer=2, n_head=1, n_embd=16, n_positions=16, vocab_size=50, rotary_dim=8),
    dict(n_layer=2, n_head=5, n_embd=40, n_positions=33, vocab_size=300, layer_norm_epsilon=1e-3, rotary_dim=2),
    dict(n_layer=4, n_head=2, n_embd=24, n_positions=64, vocab_size=129, initializer_range=0.1, rotary_dim=10),
]


def make_model(settings):
    config = transformers.GPTJConfig(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
                                     tie_word_embeddings=False, **settings)
    return transformers.GPTJForCausalLM(config)


def compare_text(checks, saturn, model, work):
    """Text through the tokenizer beside the model is the tokens of its own library."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    text = "In the beginning God created the heaven and the earth. \u00fcber \U0001f600 " * 20
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator([text], tokenizers.trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet,
                                                                         show_progress=False))
    directory = path_in(work, "checkpoint")
    tokenizer.save(str(directory / "tokenizer.json"))
    path_in(work, "text.txt").write_text(text, encoding="utf-8")
    tokens = tokenizer.encode(text).ids
    numpy.array(tokens, numpy.uint16).tofile(path_in(work, "text.bin"))
    of_text = run_json(saturn, "eval", directory, "--text", path_in(work, "text.txt"), "--json")
    of_tokens = run_json(saturn, "eval", directory, "--tokens", path_in(work, "text.bin"), "--json")
    checks.holds(f"text gives {of_text}, its tokens {of_tokens}", of_text == of_tokens)
    checks.holds(f"count {of_text['count']}", of_text["count"] == len(tokens) - 1)


compare(CONFIGURATIONS, make_model, more=compare_text)
