"""Tokenizers small enough to read and real enough for llama.cpp."""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import pairwise
from string import ascii_lowercase, digits

from gguf import GGUFWriter, TokenType

BOS, EOS, IM_START, IM_END = "<s>", "</s>", "<|im_start|>", "<|im_end|>"
SPECIAL = (BOS, EOS, IM_START, IM_END)
FIM = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

_TEXT = """the cat sat on the mat and the dog ran over the hill because it was happy that the sun was shining
once upon a time there was a king who had three daughters and the youngest of them was the most beautiful
what is the capital of france and how many people live there today hello world this is a test of the system
you are a helpful assistant that answers every question with a short and simple sentence in plain english
some models are small and some are large but all of them read one token after another and write the next
"""


@cache
def byte_letters() -> dict[int, str]:
    """The printable letter that stands for each byte in GPT-2's vocabulary."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = {byte: chr(byte) for byte in plain}
    for byte in range(256):
        letters.setdefault(byte, chr(256 + len(letters) - len(plain)))
    return letters


@cache
def merges(count: int) -> tuple[tuple[str, str], ...]:
    """The first ``count`` merges that byte-pair encoding learns from a small text, then made-up pairs of bytes."""
    letters = byte_letters()
    words = Counter(tuple(letters[byte] for byte in (" " + word).encode()) for word in _TEXT.split())
    found: list[tuple[str, str]] = []
    while len(found) < count:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, times in words.items():
            for pair in pairwise(word):
                pairs[pair] += times
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        found.append(best)
        words = Counter({_merge(word, best): times for word, times in words.items()})
    known = {first + second for first, second in found}
    made_up = ((first, second) for first in ascii_lowercase + digits for second in ascii_lowercase + digits)
    found += [pair for pair in made_up if "".join(pair) not in known][: max(0, count - len(found))]
    return tuple(found)


def _merge(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    merged: list[str] = []
    for letter in word:
        if merged and (merged[-1], letter) == pair:
            merged[-1] += letter
        else:
            merged.append(letter)
    return tuple(merged)


@cache
def byte_pair_tokens(n_vocab: int, *, fim: bool = False) -> tuple[str, ...]:
    """256 bytes, the results of the merges, and last the special tokens; 263 <= n_vocab <= 1500."""
    special = (*SPECIAL, *FIM) if fim else SPECIAL
    learned = ["".join(pair) for pair in merges(n_vocab - 256 - len(special))]
    return (*byte_letters().values(), *learned, *special)


def is_plain(token: str) -> bool:
    """Whether the token is printable ASCII text."""
    return token not in (*SPECIAL, *FIM) and all(letter == "\u0120" or "!" <= letter <= "~" for letter in token)


def add_byte_pair_vocabulary(writer: GGUFWriter, n_vocab: int, chat_template: str | None, *, fim: bool = False) -> None:
    """A byte-level BPE tokenizer with ChatML's special tokens; every text can be tokenized.

    ``fim``: with the tokens of fill-in-the-middle, which llama.cpp knows by their texts.
    """
    tokens = byte_pair_tokens(n_vocab, fim=fim)
    assert len(set(tokens)) == len(tokens) == n_vocab
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(list(tokens))
    writer.add_token_types([TokenType.CONTROL if token in (*SPECIAL, *FIM) else TokenType.NORMAL for token in tokens])
    writer.add_token_merges(
        [" ".join(pair) for pair in merges(n_vocab - 256 - len(SPECIAL) - (len(FIM) if fim else 0))]
    )
    writer.add_bos_token_id(tokens.index(BOS))
    writer.add_eos_token_id(tokens.index(EOS))
    writer.add_eot_token_id(tokens.index(IM_END))
    writer.add_add_bos_token(True)
    if chat_template is not None:
        writer.add_chat_template(chat_template)


@cache
def word_piece_tokens() -> tuple[str, ...]:
    """BERT's special tokens, the words of the text, and each letter at a word's start and inside of it."""
    words = sorted({word for word in _TEXT.split() if len(word) > 1})
    letters = ascii_lowercase + digits
    starts = [f"\u2581{piece}" for piece in (*letters, *".,;:!?'-()", *words)]
    return ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *starts, *letters)


def add_word_piece_vocabulary(writer: GGUFWriter) -> int:
    """BERT's tokenizer; returns the size of the vocabulary."""
    tokens = word_piece_tokens()
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(list(tokens))
    writer.add_token_types([TokenType.CONTROL] * 5 + [TokenType.NORMAL] * (len(tokens) - 5))
    writer.add_token_type_count(2)
    writer.add_pad_token_id(0)
    writer.add_unk_token_id(1)
    writer.add_bos_token_id(2)
    writer.add_sep_token_id(3)
    writer.add_mask_token_id(4)
    return len(tokens)
