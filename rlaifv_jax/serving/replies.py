"""Answers as the protocol has them: a whole completion, chunks of one, log-probabilities, counts."""

import math
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from rlaifv_jax.data.tokenizer import Tokenizer
from rlaifv_jax.serving.jobs import Piece, Token
from rlaifv_jax.serving.protocol import ApiError

LEAST = -9999.0  # what the protocol has for tokens that cannot be


class Vocabulary:
    """Texts of single tokens, blanks and special ones included."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        anchor = tokenizer.encode_bare("a")[-1:]  # of what stands in front, tokenizers take no blank away
        before = tokenizer.decode(anchor)

        @lru_cache(maxsize=1 << 16)
        def text(token: int) -> str:
            if token >= tokenizer.vocab_size:  # padding of the vocabulary
                return ""
            alone = tokenizer.decode([token], skip_special=False)
            if alone in tokenizer.special_tokens:
                return alone
            return tokenizer.decode([*anchor, token], skip_special=False).removeprefix(before)

        self.text = text

    def told(self, tokens: Sequence[Token]) -> dict[str, Any]:
        """A choice's `logprobs`."""
        content = [
            self._entry(token.id, token.logprob) | {"top_logprobs": [self._entry(*one) for one in token.likely]}
            for token in tokens
        ]
        return {"content": content, "refusal": None}

    def _entry(self, token: int, logprob: float) -> dict[str, Any]:
        text = self.text(token)
        known = list(text.encode()) if "\ufffd" not in text else None  # a part of a letter
        if math.isnan(logprob):
            raise ApiError(500, "the model's probabilities are no numbers; its weights may be damaged")
        return {"token": text, "logprob": max(logprob, LEAST), "bytes": known}


@dataclass
class Reply:
    """Of one request. prompt: its positions. tells: whether log-probabilities are wanted."""

    model: str
    prompt: int
    vocabulary: Vocabulary
    tells: bool
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))
    counts: dict[int, int] = field(default_factory=dict)  # tokens of each answer
    cached: bool = False

    def see(self, piece: Piece) -> None:
        self.counts[piece.index] = piece.count
        self.cached = self.cached or piece.cached

    @property
    def usage(self) -> dict[str, Any]:
        said = sum(self.counts.values())
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": said,
            "total_tokens": self.prompt + said,
            "prompt_tokens_details": {"cached_tokens": self.prompt if self.cached else 0},
        }

    def whole(self, pieces: Sequence[Piece]) -> dict[str, Any]:
        """From the last piece of every answer."""
        choices = [
            {
                "index": piece.index,
                "message": {"role": "assistant", "content": piece.text},
                "finish_reason": piece.reason,
                "logprobs": self.vocabulary.told(piece.told) if self.tells else None,
            }
            for piece in sorted(pieces, key=lambda piece: piece.index)
        ]
        return self._frame("chat.completion", choices) | {"usage": self.usage}

    def opening(self, answers: int) -> Iterator[dict[str, Any]]:
        for index in range(answers):
            yield self._chunk(index, {"role": "assistant", "content": ""}, None, None)

    def chunk(self, piece: Piece) -> dict[str, Any]:
        told = self.vocabulary.told(piece.told) if self.tells else None
        return self._chunk(piece.index, {"content": piece.text} if piece.text else {}, piece.reason, told)

    def closing(self) -> dict[str, Any]:
        """The chunk with the counts."""
        return self._frame("chat.completion.chunk", []) | {"usage": self.usage}

    def _chunk(self, index: int, delta: dict[str, Any], reason: str | None, told: Any) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "finish_reason": reason, "logprobs": told}
        return self._frame("chat.completion.chunk", [choice])

    def _frame(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model, "choices": choices}
