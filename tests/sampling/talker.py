"""A tiny LLaVA that says something else about every picture, opened by this project and by transformers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from convert.export import export_model
from convert.load import open_model
from convert.orbax_dir import save_params
from rlaifv_jax.data.images import center_crop, pad_to_square
from rlaifv_jax.data.rows import Item, RowShape, build_rows
from rlaifv_jax.data.templates import LLAVA_V1, Turn
from rlaifv_jax.models.blueprint import flat, nested, unstack
from rlaifv_jax.models.hf_config import CLIP_MEAN, CLIP_STD
from rlaifv_jax.models.layers import PLAIN
from rlaifv_jax.models.seeing import normalize
from rlaifv_jax.parallel import make_mesh
from rlaifv_jax.sampling.engine import Answers, Engine
from rlaifv_jax.sampling.prompt import Prompt, Prompter
from rlaifv_jax.sampling.settings import Sampling
from rlaifv_jax.shapes.start import random_weights, write_directory

QUESTIONS = (
    "describe the image .",
    "what is in the top left ?",
    "is there a small red circle in the middle center ?",
    "what ?",
    "describe a large blue star in the bottom right .",
)
END = 2


def pictures(count: int) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    shapes = [(48, 48, 3), (60, 90, 3), (90, 50, 3), (70, 70, 3)]
    return [Image.fromarray(rng.integers(0, 256, shapes[n % 4], dtype=np.uint8)) for n in range(count)]


@dataclass
class Talker:
    """One model, asked in two ways."""

    folder: Path  # this project's directory
    exported: Path  # the same for transformers

    def __post_init__(self) -> None:
        self.stored = open_model(self.folder)
        self.prompter = Prompter(self.stored)

    def engine(
        self,
        settings: Sampling,
        mesh: Any = None,
        dtype: Any = jnp.float32,
        ends: tuple[int, ...] = (END,),
        **options: Any,
    ) -> Engine:
        mesh = mesh or make_mesh(1, 1, 1, jax.devices()[:1])
        params = unstack(self.stored.load(mesh, lambda path: dtype))
        return Engine(self.stored, params, mesh, self.prompter.tokenizer, ends, settings, **options)

    def prompts(self, questions: Sequence[str] = QUESTIONS) -> list[Prompt]:
        """A picture for each; names and tags are the numbers."""
        return [
            self.prompter.prompt(question, picture, str(number), number)
            for number, (question, picture) in enumerate(zip(questions, pictures(len(questions)), strict=True))
        ]

    def ask(self, settings: Sampling, questions: Sequence[str] = QUESTIONS, **options: Any) -> list[Answers]:
        """Answers in the order of the questions."""
        return in_order(self.engine(settings, **options).generate(self.prompts(questions)))

    def transformers(self, questions: Sequence[str] = QUESTIONS, **options: Any) -> list[list[int]]:
        """Tokens of transformers' answers to all questions in one left-padded batch, without what follows the end."""
        torch = pytest.importorskip("torch")
        from transformers import LlavaForConditionalGeneration

        hf = LlavaForConditionalGeneration.from_pretrained(self.exported, dtype=torch.float32).eval()
        encode, image = self.prompter.tokenizer.encode, hf.config.image_token_id
        rows = []
        for question in questions:
            before, after = LLAVA_V1.render_prompt([Turn("user", question)], image=True).split("<image>")
            rows.append([*encode(before), *[image] * self.stored.config.tile.tokens, *encode(after)[1:]])
        longest = max(map(len, rows))
        mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
        pixels = [
            np.asarray(normalize(center_crop(pad_to_square(p), 48), CLIP_MEAN, CLIP_STD)) for p in pictures(len(rows))
        ]
        found = hf.generate(
            input_ids=torch.tensor([[0] * (longest - len(row)) + row for row in rows]),
            attention_mask=torch.tensor(mask),
            pixel_values=torch.from_numpy(np.stack(pixels).transpose(0, 3, 1, 2).copy()),
            pad_token_id=0,
            **{"do_sample": False, "eos_token_id": [END], **options},
        )
        ends = options.get("eos_token_id", [END])
        return [cut_at_end(row[longest:].tolist(), ends) for row in found]

    def first_logits(self, prompt: Prompt) -> np.ndarray:
        """float32[V] behind a prompt, by the forward pass of training."""
        shape = RowShape(64, 0, self.stored.config.tile)
        batch = build_rows([[Item(prompt.encoded, prompt.image)]], shape)
        params = self.stored.load(make_mesh(1, 1, 1, jax.devices()[:1]), lambda path: jnp.float32)
        model = self.stored.blueprint.module(params)
        return np.asarray(model.decoder.logits(model.hidden(batch, PLAIN)[0, prompt.positions - 1]))


def cut_at_end(tokens: list[int], ends: Sequence[int]) -> list[int]:
    stop = next((place for place, token in enumerate(tokens, 1) if token in ends), None)
    return tokens[:stop]


def in_order(answers: Iterator[Answers]) -> list[Answers]:
    return sorted(answers, key=lambda found: found.tag)


def tokens(found: Sequence[Answers]) -> list[list[int]]:
    """All answers of all prompts, one after the other."""
    return [list(answer.tokens) for answers in found for answer in answers.answers]


def write_talker(folder: Path) -> Talker:
    """The model, in both forms."""
    plan = write_directory(folder / "ours")
    leaves = flat(random_weights(plan.shapes, seed=3))
    leaves = {path: leaf if path.endswith(("/scale", "/bias")) else 2 * leaf for path, leaf in leaves.items()}
    # Tokens 3 … 258 are bytes, which no tokenizer decodes alike; the end is made likely enough to occur.
    head = leaves["decoder/head/kernel"]
    leaves["decoder/head/kernel"] = head.at[:, 3:259].set(0).at[:, END].multiply(1.5)
    save_params(folder / "ours", nested(leaves))
    export_model(open_model(folder / "ours"), folder / "theirs", "llava-hf")
    return Talker(folder / "ours", folder / "theirs")
