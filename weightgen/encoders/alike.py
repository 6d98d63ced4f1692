"""Texts that an encoder cannot tell apart, and texts that it does not read to their end."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from weightgen.errors import InputError
from weightgen.protocols import Encoder

Read = Callable[[Sequence[str]], Tensor]


def refuse_alike(encoder: Encoder, texts: Sequence[str], answers: Sequence[str]) -> None:
    """Refuse answers of which two have one embedding: no classifier could tell them apart.

    Args:
        encoder: embeds answers; token ids are compared where it has `tokenize`, embeddings otherwise.
        texts: the answers in their templates, C texts.
        answers: the C answers, for the message.

    Raises:
        InputError: two of them are alike, and why.
    """
    rows = _reader(encoder, encoder.encode_texts)(texts)
    first: dict[bytes, int] = {}
    for one, row in enumerate((rows + 0).cpu().numpy()):  # + 0 makes -0 and 0 the same bytes
        other = first.setdefault(row.tobytes(), one)
        if other != one:
            raise InputError(_told(encoder, texts, answers[other], answers[one]))


def cut_texts(encoder: Encoder, texts: Sequence[str]) -> list[str]:
    """Those of the questions whose end the encoder does not read: without their last word they are the same to it."""
    whole = [text for text in texts if len(text.split()) > 1]
    if not whole:
        return []
    read = _reader(encoder, encoder.encode_questions)
    shorter = read([" ".join(text.split()[:-1]) for text in whole])
    return [
        text for text, row, other in zip(whole, read(whole), shorter, strict=True) if torch.equal(row, other)
    ]


def length_limit(encoder: Encoder) -> str:
    """How much of a text is read, in words."""
    limit = getattr(encoder, "max_tokens", None)
    return f"{limit} tokens" if limit else "a fixed length"


def _reader(encoder: Encoder, embed: Read) -> Read:
    tokenize: Read | None = getattr(encoder, "tokenize", None)
    return embed if tokenize is None else tokenize


def _told(encoder: Encoder, texts: Sequence[str], one: str, other: str) -> str:
    if " ".join(one.lower().split()) == " ".join(other.lower().split()):
        return f"answers must differ, and not by capitals or spaces alone, got {one!r} and {other!r}"
    longest = max(texts, key=len)
    if cut_texts(encoder, [longest]):
        return (
            f"the encoder reads {length_limit(encoder)} of an answer in its statement, and {longest!r:.80} is longer, so that "
            f"{one!r} and {other!r} are the same to it: shorten the question, or give template='it is {{}}'"
        )
    return f"the encoder reads {one!r} and {other!r} as the same, for example as unknown words: choose other words"
