"""Claims checked by a labeler, all of an image on one prefix, against one forward pass for each in transformers.

    python -m benchmarks.score --json score.json

Ten candidates with ten claims each about a picture of 576 image tokens, no claim twice. Every prompt has 37 tokens
before the question and 27 of it (" Please answer yes or no. ASSISTANT:" included). Read are the probabilities of four
tokens behind the prompt. Contenders, on the same weights and cores:

    ours                            the picture and the beginning once, 100 branches
    transformers                    a forward pass of the whole prompt for each claim, as the original's labelers do
    transformers, prefix cached     the picture and the beginning once, its cache copied for 100 claims in a batch

Pixels and token ids are in memory before the clock starts. Before it does, the scores of all are compared.
"""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch

from benchmarks import model, options, timing
from benchmarks.generate import SIZES
from benchmarks.model import FIRST_WORD, Sizes
from benchmarks.pairs import image_processor, kind_of_pictures, pictures
from rlaifv_jax.data import images
from rlaifv_jax.data.batch import IMAGE_TOKEN
from rlaifv_jax.data.encode import Answer, Encoded
from rlaifv_jax.models.blueprint import Params
from rlaifv_jax.parallel import make_mesh
from rlaifv_jax.sampling.forward import Account, Forward
from rlaifv_jax.sampling.settings import DTYPES

BEFORE, QUESTION = 37, 27  # tokens
WORDS = (4874, 3869, 694, 1939)  # yes, Yes, no, No of LLaVA-1.5


class Claims:
    """A picture, the beginning of a prompt with IMAGE_TOKEN in it, and the rest for each claim, int32 token ids."""

    def __init__(self, count: int, sizes: Sizes, photos: Path, seed: int = 0):
        rng = np.random.default_rng(seed)
        self.sizes, self.picture = sizes, pictures(photos, 1)[0]
        self.prefix = rng.integers(FIRST_WORD, sizes.image_token, BEFORE).astype(np.int32)
        self.prefix = np.insert(self.prefix, BEFORE - 2, IMAGE_TOKEN)
        self.questions = rng.integers(FIRST_WORD, sizes.image_token, (count, QUESTION)).astype(np.int32)
        self.words = [word % sizes.image_token for word in WORDS]


class Ours:
    """All claims as branches of one prefix."""

    def __init__(self, opened: Any, params: Params, claims: Claims):
        self.claims = claims
        nothing = np.zeros(QUESTION, bool)
        answers = tuple(Answer(question, nothing) for question in claims.questions)
        self.group = Encoded(claims.prefix, answers, (), claims.sizes.square.uniform)
        self.tiles = claims.sizes.square.cut(images.decode(claims.picture))
        self.forward = Forward(opened, params, make_mesh(1, 1, 1, jax.devices()[:1]))

    def score(self) -> np.ndarray:
        """float32[claims, 4]"""
        self.forward.account = Account()
        ((_, verdicts),) = self.forward.next_tokens(
            [self.group], lambda _: self.tiles, {0}, self.claims.words, row_length=0, longest_row=4096
        )
        return np.stack([verdict.chances for verdict in verdicts])  # type: ignore[union-attr]  # the picture is there


class Theirs:
    """transformers, with its default attention."""

    def __init__(self, llava: Any, claims: Claims):
        self.llava, self.claims = llava.eval(), claims
        llava.config.text_config.use_cache = True
        sizes = claims.sizes
        prefix = np.repeat(claims.prefix, np.where(claims.prefix == IMAGE_TOKEN, sizes.image_tokens, 1))
        self.prefix = torch.from_numpy(np.where(prefix == IMAGE_TOKEN, sizes.image_token, prefix)).long()
        self.questions = torch.from_numpy(claims.questions).long()
        self.prefix, self.questions = self.prefix.to(llava.device), self.questions.to(llava.device)
        picture = images.decode(claims.picture)
        pixels = image_processor(sizes)([picture], return_tensors="pt")["pixel_values"]
        self.tiles = pixels.to(llava.device, llava.dtype)

    def score(self) -> np.ndarray:
        """One forward pass for each claim."""
        found = []
        with torch.inference_mode():
            for question in self.questions:
                ids = torch.cat([self.prefix, question])[None]
                logits = self.llava(input_ids=ids, pixel_values=self.tiles, logits_to_keep=1, use_cache=False).logits
                found.append(self._chances(logits))
        return np.concatenate(found)

    def score_cached(self) -> np.ndarray:
        """The prefix once."""
        with torch.inference_mode():
            start = self.llava(input_ids=self.prefix[None], pixel_values=self.tiles, logits_to_keep=1, use_cache=True)
            cache = copy.deepcopy(start.past_key_values)
            cache.batch_repeat_interleave(len(self.questions))
            logits = self.llava(input_ids=self.questions, past_key_values=cache, logits_to_keep=1).logits
            return self._chances(logits)

    def _chances(self, logits: Any) -> np.ndarray:
        return torch.softmax(logits[:, -1].float(), dim=-1)[:, self.claims.words].cpu().numpy()


def measure(name: str, ours: Ours, theirs: Theirs, rounds: int, setting: dict[str, Any]) -> dict[str, Any]:
    """One case: all claims of a picture."""
    calls: dict[str, Callable[[], np.ndarray]] = {
        timing.OURS: ours.score,
        "transformers": theirs.score,
        "transformers, prefix cached": theirs.score_cached,
    }
    scores = [call() for call in calls.values()]
    times = timing.interleave(calls, rounds)
    claims, sizes = len(ours.claims.questions), ours.claims.sizes
    account = ours.forward.account
    whole = claims * (sizes.image_tokens + BEFORE + QUESTION)
    setting = setting | {
        "claims": claims,
        "largest difference of scores": _largest(scores),
        "claims/s": {key: round(claims / float(np.median(value.wall)), 1) for key, value in times.items()},
        "positions computed": {timing.OURS: account.positions, "transformers": whole},
        "images computed": {timing.OURS: account.images, "transformers": claims},
        "times as fast": {
            key: round(float(np.median(value.wall)) / float(np.median(times[timing.OURS].wall)), 2)
            for key, value in times.items()
        },
    }
    return timing.case(name, times, setting)


def _largest(scores: Sequence[np.ndarray]) -> float:
    return float(max(np.abs(one - scores[0]).max() for one in scores))


def main() -> None:
    parser = options.make_parser(__doc__, rounds=7, pairs=None)
    parser.add_argument("--candidates", type=options.positive, default=10, help="answers about the picture, default 10")
    parser.add_argument("--claims", type=options.positive, default=10, help="of each answer, default 10")
    parser.add_argument("--size", choices=tuple(SIZES), default="small", help="of the model, default small")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    options.add_cores(parser)
    options.add_photos(parser)
    chosen = parser.parse_args()

    cores = timing.limit_cores(chosen.cores)
    sizes, dtype = SIZES[chosen.size], chosen.dtype
    llava, opened, params = model.both(sizes, dtype, real=chosen.size == "small")
    claims = Claims(chosen.candidates * chosen.claims, sizes, chosen.photos)
    setting = {
        "cores": cores,
        "size": chosen.size,
        "dtype": dtype,
        "pictures": kind_of_pictures(chosen.photos),
        "device": jax.devices()[0].device_kind,
    }
    name = f"{chosen.candidates} candidates × {chosen.claims} claims, one picture"
    case = measure(name, Ours(opened, params, claims), Theirs(llava, claims), chosen.rounds, setting)
    timing.report([case], chosen.json)


if __name__ == "__main__":
    main()
