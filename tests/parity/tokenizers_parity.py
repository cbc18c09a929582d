"""Tokens of Saturn against those of the libraries that made the tokenizers, on texts that break tokenizers.

usage: parity.py ENCODE_MAIN
"""

import random
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
SCRIPTS = [
    (0x20, 0x7E), (0xA0, 0x17F), (0x370, 0x3FF), (0x400, 0x4FF), (0x590, 0x5F4), (0x600, 0x6FF), (0x900, 0x97F),
    (0xE00, 0xE5B), (0x1100, 0x11FF), (0x2000, 0x206F), (0x2070, 0x209C), (0x20A0, 0x20BF), (0x2150, 0x218B),
    (0x3000, 0x30FF), (0x4E00, 0x4FFF), (0xAC00, 0xAD00), (0x1F300, 0x1F5FF), (0x1F600, 0x1F64F), (0x1D7CE, 0x1D7FF),
]  # fmt: skip
PLAIN = "In the beginning God created the heaven and the earth. And the earth was without form, and void;\n" * 3


def random_text(rng):
    parts = []
    for _ in range(rng.randint(0, 60)):
        kind = rng.randrange(9)
        if kind == 0:
            parts.append(rng.choice([" ", "\n", "\t", "\r\n", "\u00a0", "\u3000", "\u180e", "\u0085", "\x0b"]) * rng.randint(1, 9))
        elif kind == 1:
            parts.append("".join(chr(rng.randrange(0, 32)) for _ in range(rng.randint(1, 4))))
        elif kind == 2:
            parts.append(rng.choice(["'s", "'S", "'ll", "'LL", "'\u017f", "don't", "we've", "I'M", "''d", "'Re"]))
        elif kind == 3:
            parts.append("".join(rng.choice("0123456789") for _ in range(rng.randint(1, 9))))
        elif kind == 4:
            parts.append(rng.choice(["<|endoftext|>", "<|endof", "<|", "|>", "\U0001f469\u200d\U0001f469\u200d\U0001f467", "e\u0301", "\ufeff", "\u200b"]))
        elif kind == 5:
            start = rng.randrange(len(PLAIN) - 30)
            parts.append(PLAIN[start : start + rng.randint(1, 30)])
        elif kind == 6:
            parts.append(rng.choice("ab.! ") * rng.randint(30, 120))
        else:
            low, high = rng.choice(SCRIPTS)
            parts.append("".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 6))))
    return "".join(parts)


def corpus():
    rng = random.Random(5)
    yield PLAIN
    for _ in range(400):
        yield random_text(rng)


def byte_level(pattern, vocabulary, prefix_space, ignore_merges):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if pattern is None:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(pattern), behavior="isolated", invert=False),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<|endoftext|>"], show_progress=False
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.add_tokens([AddedToken("heaven and", normalized=False)])
    return tokenizer


def encode(program, path, texts, threads):
    data = b"".join(struct.pack("<I", len(t.encode())) + t.encode() for t in texts)
    out = subprocess.run([program, str(path), str(threads)], input=data, stdout=subprocess.PIPE, check=True).stdout
    at, all_tokens = 0, []
    for _ in texts:
        (count,) = struct.unpack_from("<I", out, at)
        all_tokens.append(list(struct.unpack_from(f"<{count}i", out, at + 4)))
        at += 4 + 4 * count
    assert at == len(out)
    return all_tokens


def compare(name, want, got, texts):
    for text, a, b in zip(texts, want, got, strict=True):
        if a != b:
            first = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
            sys.exit(f"{name}: token {first} differs in {text!r}\n  want {a[first:first + 8]}\n  got  {b[first:first + 8]}")
    print(f"{name}: {len(texts)} texts, {sum(map(len, want))} tokens agree")


def sentence_piece(folder, kind, options):
    import sentencepiece

    text = folder / "corpus.txt"
    text.write_text("\n".join(line for part in corpus() for line in part.splitlines() if "\0" not in line))
    sentencepiece.SentencePieceTrainer.Train(
        input=str(text), model_prefix=str(folder / kind), minloglevel=2, hard_vocab_limit=False, **options
    )
    path = folder / f"{kind}.model"
    return path, sentencepiece.SentencePieceProcessor(model_file=str(path))


def main():
    program = sys.argv[1]
    rng = random.Random(11)
    texts = ["", " ", "\n", "a", "'s", *(random_text(rng) for _ in range(1500))]
    long_text = "".join(random_text(rng) + rng.choice(["", "\n", " "]) for _ in range(12000))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, pattern, vocabulary, prefix_space, ignore_merges in (
            ("gpt2", None, 3000, False, False),
            ("gpt2 with a space first", None, 900, True, False),
            ("llama3", LLAMA3, 3000, False, True),
            ("digits", r"\p{N}", 700, False, False),
        ):
            tokenizer = byte_level(pattern, vocabulary, prefix_space, ignore_merges)
            path = folder / f"{name}.json"
            tokenizer.save(str(path))
            want = [tokenizer.encode(t, add_special_tokens=False).ids for t in texts]
            compare(name, want, encode(program, path, texts, 1), texts)
            want = [tokenizer.encode(long_text, add_special_tokens=False).ids]
            for threads in (1, 2, 3):
                compare(f"{name}, {threads} threads", want, encode(program, path, [long_text], threads), [long_text])
            if name == "gpt2":
                pair = folder / "pair"
                pair.mkdir()
                tokenizer.model.save(str(pair))
                plain = Tokenizer(models.BPE.from_file(str(pair / "vocab.json"), str(pair / "merges.txt")))
                plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
                plain.add_special_tokens(["<|endoftext|>"])
                want = [plain.encode(t, add_special_tokens=False).ids for t in texts]
                compare("vocab.json and merges.txt", want, encode(program, pair, texts, 1), texts)
        for kind, options in (
            ("bpe", dict(model_type="bpe", vocab_size=4000, character_coverage=0.98, byte_fallback=True, normalization_rule_name="identity",
                         remove_extra_whitespaces=False, split_digits=True, max_sentence_length=100000)),
        ):  # fmt: skip
            path, processor = sentence_piece(folder, kind, options)
            some = [t for t in texts if "\0" not in t]
            long = long_text.replace("\0", "")
            compare(f"SentencePiece {kind}", [processor.encode(t) for t in some], encode(program, path, some, 1), some)
            compare(f"SentencePiece {kind}, 2 threads", [processor.encode(long)], encode(program, path, [long], 2), [long])


main()
