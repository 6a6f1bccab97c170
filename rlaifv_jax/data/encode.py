"""From an example to the tokens of a shared prefix and its branches.

Every conversation is tokenised as a whole, as the original does, and only then cut where its first labelled
token stands: tokenising the pieces apart would give other ids around the cut.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from rlaifv_jax.data import images
from rlaifv_jax.data.batch import IMAGE_TOKEN
from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.data.schema import Example
from rlaifv_jax.data.templates import IMAGE_TAG, Conversation
from rlaifv_jax.data.texts import check_text
from rlaifv_jax.data.tiles import ImageProcessor, Placement, placement_of
from rlaifv_jax.data.tokenizer import Tokenizer


@dataclass(frozen=True)
class Answer:
    """One branch: int32[n] tokens, the end token included, and bool[n], true for tokens to predict."""

    tokens: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Encoded:
    """An example as tokens. `prefix` int32[p] holds `IMAGE_TOKEN` wherever an image, or a part of it, goes."""

    prefix: np.ndarray
    answers: tuple[Answer, ...]
    truncated: tuple[bool, ...]  # per answer: whether its tail was cut at the maximum length
    picture: Placement | None  # None without an image

    def __post_init__(self) -> None:
        there, wanted = int((self.prefix == IMAGE_TOKEN).sum()), len(self.picture.places) if self.picture else 0
        if there != wanted:
            raise ValueError(f"the prefix has {there} places for an image that needs {wanted}")

    @property
    def tiles(self) -> int:
        """Of the image; 0 without one."""
        return self.picture.tiles if self.picture else 0

    @property
    def image_tokens(self) -> int:
        """Positions of the image; 0 without one."""
        return self.picture.positions if self.picture else 0

    @property
    def widths(self) -> np.ndarray:
        """int64[p]: positions that each token of the prefix takes once the features of the image stand in it."""
        widths = np.ones(len(self.prefix), np.int64)
        if self.picture:
            widths[self.prefix == IMAGE_TOKEN] = [len(places) for places in self.picture.places]
        return widths

    @property
    def prefix_length(self) -> int:
        """Positions of the prefix once the features of the image stand in it."""
        return len(self.prefix) + (self.picture.surplus if self.picture else 0)

    @property
    def row_length(self) -> int:
        """Positions in a row: the prefix once, then every branch."""
        return self.prefix_length + sum(len(answer.tokens) for answer in self.answers)

    @property
    def highest_token(self) -> int:
        """The largest token id: the embedding needs a row for it."""
        return max(int(part.max(initial=0)) for part in (self.prefix, *(answer.tokens for answer in self.answers)))

    @property
    def target_count(self) -> int:
        """Tokens to predict, over all branches."""
        return sum(int(answer.labels.sum()) for answer in self.answers)


@dataclass(frozen=True)
class Encoder:
    """Tokenises examples for one model. Picklable; equals, by template, `preprocess_v1` and `tokenizer_image_token`
    (muffin/train/train_utils.py of RLAIF-V) or `omni_preprocess` (omnilmm/train/train_utils.py), followed by the cut to
    `max_length` of llava/model/llava_arch.py.

    Differences, all on rows the original trains on by accident: `dpo` labels only the last answer of a longer
    conversation, and a row whose labels cannot be found raises `BadRow` instead of being masked as a whole.
    """

    tokenizer: Tokenizer
    template: Conversation
    processor: ImageProcessor | None  # of a model that sees
    max_length: int
    objective: Literal["dpo", "sft"]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that decides the tokens and the places of pictures."""
        places: Any = self.processor
        if self.processor and self.processor.uniform:
            places = self.processor.tile.tokens
        parts = (
            self.tokenizer.fingerprint,
            self.template,
            places,
            self.max_length,
            self.objective,
        )
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def encode(self, example: Example) -> Encoded:
        """Return the tokens of `example`; raises `BadRow` for a row that must not be trained on."""
        return self.encode_with(example, self._placement(example))

    def encode_with(self, example: Example, picture: Placement | None) -> Encoded:
        """The same for an example whose picture need not be at hand."""
        self._check_texts(example, picture is not None)
        surplus, slices = (picture.surplus, picture.slices) if picture else (0, (0, 0))
        prefixes, answers, truncated = [], [], []
        for answer in example.answers:
            text = self.template.render(example.turns, answer, image=picture is not None, slices=slices)
            ids, labels = self._label(text)
            start = int(labels.argmax())
            prefix, tokens, labels = ids[:start], ids[start:], labels[start:]
            room = max(self.max_length - len(prefix) - surplus, 0)
            if not labels[:room].any():
                raise BadRow(
                    "answer_truncated_away",
                    f"the prompt takes {len(prefix) + surplus} of at most {self.max_length} positions",
                )
            prefixes.append(prefix)
            answers.append(Answer(tokens[:room], labels[:room]))
            truncated.append(len(tokens) > room)
        if any(not np.array_equal(prefixes[0], other) for other in prefixes[1:]):
            raise BadRow("prefix_mismatch", "the answers tokenise into different prompts")
        return Encoded(prefixes[0], tuple(answers), tuple(truncated), picture)

    def _placement(self, example: Example) -> Placement | None:
        data = example.image
        return None if data is None else placement_of(self.processor, lambda: images.size(data))

    def _check_texts(self, example: Example, has_image: bool) -> None:
        if not has_image and not example.turns[0].text.strip():
            raise BadRow("empty_question", "there is neither an image nor a question")
        texts = [(f"turn {n} ({turn.role})", turn.text, turn.role) for n, turn in enumerate(example.turns)]
        texts += [(f"answer {n}", text, "assistant") for n, text in enumerate(example.answers)]
        for where, text, role in texts:
            if role == "assistant" and not text.strip():
                raise BadRow("empty_answer", f"{where} has no text")
            check_text(text, where)
            if IMAGE_TAG in text:
                raise BadRow("image_tag_in_text", f"{where} contains {IMAGE_TAG!r}; the image is placed for you")
            for token in self.tokenizer.special_tokens:
                if token in text:
                    raise BadRow("special_token_in_text", f"{where} contains {token!r}")
            if mark := self.template.separator_in(text, role):
                raise BadRow("separator_in_text", f"{where} contains {mark!r}")

    def _label(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Ids int32[n] of a whole conversation and bool[n], true for the answers' tokens and end tokens."""
        ids = self.template.tokenize(self.tokenizer, text)
        spans = self.template.answer_spans(self.tokenizer, text, ids)
        labels = np.zeros(len(ids), bool)
        for start, stop in spans if self.objective == "sft" else spans[-1:]:
            labels[start:stop] = True
        if not labels.any():
            raise BadRow("label_mismatch", "no token is left to predict")
        return np.asarray(ids, np.int32), labels
