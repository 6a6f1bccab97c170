"""Answers of a fixed number of tokens, this project's engine against transformers' `generate`, on the same weights.

    python -m benchmarks.generate --json generate.json

Two cases: ten candidates for one question, as feedback is made, and one answer to each of eight questions. Every prompt
has 576 image tokens; tokens are drawn at temperature 0.7 from the 50 most likely, on both sides. Pixels and token ids
are in memory before the clock starts. Before it does, both sides decode greedily, and the tokens are compared where the
weights are the same (not with --size 7b).
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import torch

from benchmarks import model, options, timing
from benchmarks.model import END_TOKEN, LLAVA_7B, PAD_TOKEN, SMALL, Sizes
from benchmarks.pairs import Lengths, Pair, items, kind_of_pictures, make_pairs, normalized
from rlaifv_jax.data.batch import IMAGE_TOKEN
from rlaifv_jax.data.encode import Encoded
from rlaifv_jax.models.blueprint import Params, unstack
from rlaifv_jax.parallel import make_mesh
from rlaifv_jax.sampling.engine import Account, Engine
from rlaifv_jax.sampling.prompt import Prompt
from rlaifv_jax.sampling.settings import CACHE_DTYPES, DTYPES, TOP_K, Sampling

SIZES = {"small": SMALL, "7b": LLAVA_7B}
TEMPERATURE = 0.7


class NoText:
    """A tokenizer for tokens that mean nothing."""

    bos_id = 1
    eos_id = END_TOKEN
    vocab_size = 0

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        return ""


class Ours:
    """Prompts once, all candidates as branches."""

    def __init__(self, opened: Any, params: Params, pairs: Sequence[Pair], sizes: Sizes, cache: str):
        self.opened, self.params, self.cache = opened, params, cache
        self.mesh = make_mesh(1, 1, 1, jax.devices()[:1])
        found = items(pairs, sizes)
        self.prompts = [
            Prompt(Encoded(pair.prompt, (), (), item.encoded.picture), item.image, str(number), number)
            for number, (pair, item) in enumerate(zip(pairs, found, strict=True))
        ]
        self.account = Account()

    def generate(self, samples: int, settings: Sampling) -> list[list[int]]:
        engine = Engine(
            self.opened,
            self.params,
            self.mesh,
            NoText(),  # type: ignore[arg-type]  # knows as much as is needed
            (END_TOKEN,),
            settings,
            samples=samples,
            prompts=len(self.prompts),
            branches=samples,
            cache=self.cache,
        )
        found = sorted(engine.generate(self.prompts), key=lambda answers: answers.tag)
        self.account = engine.account
        return [list(answer.tokens) for answers in found for answer in answers.answers]


class Theirs:
    """transformers, with its default cache and attention."""

    def __init__(self, llava: Any, pairs: Sequence[Pair], sizes: Sizes):
        self.llava = llava.eval()
        llava.config.text_config.use_cache = True
        rows = [np.repeat(p.prompt, np.where(p.prompt == IMAGE_TOKEN, sizes.image_tokens, 1)) for p in pairs]
        ids = np.where(np.stack(rows) == IMAGE_TOKEN, sizes.image_token, np.stack(rows))
        device, dtype = llava.device, llava.dtype
        self.inputs = {
            "input_ids": torch.from_numpy(ids).long().to(device),
            "attention_mask": torch.ones(ids.shape, dtype=torch.long, device=device),
            "pixel_values": normalized(pairs, sizes).to(device, dtype),
        }

    def generate(self, samples: int, settings: Sampling) -> list[list[int]]:
        drawn = {"do_sample": True, "temperature": settings.temperature, "top_k": settings.top_k}
        with torch.inference_mode():
            found = self.llava.generate(
                **self.inputs,
                num_return_sequences=samples,
                min_new_tokens=settings.min_new_tokens,
                max_new_tokens=settings.max_new_tokens,
                eos_token_id=END_TOKEN,
                pad_token_id=PAD_TOKEN,
                **(drawn if settings.draws else {"do_sample": False}),
            )
        return found[:, self.inputs["input_ids"].shape[1] :].tolist()

    def computed(self, samples: int, new_tokens: int) -> dict[str, int]:
        """What `generate` computes: inputs are repeated before anything else."""
        questions, length = self.inputs["input_ids"].shape
        rows = questions * samples
        return {"images": rows, "prompt positions": rows * length, "passes": rows * (new_tokens - 1)}


def agreement(ours: Ours, theirs: Theirs, new_tokens: int) -> float:
    """Share of greedy tokens that are the same on both sides."""
    plain = Sampling(min_new_tokens=new_tokens, max_new_tokens=new_tokens)
    greedy = zip(ours.generate(1, plain), theirs.generate(1, plain), strict=True)
    return round(float(np.mean([a == b for one, other in greedy for a, b in zip(one, other, strict=True)])), 4)


def measure(
    name: str, ours: Ours, theirs: Theirs, samples: int, new_tokens: int, rounds: int, setting: dict[str, Any]
) -> dict[str, Any]:
    """One case: `samples` answers to every prompt."""
    drawn = Sampling(TEMPERATURE, TOP_K, min_new_tokens=new_tokens, max_new_tokens=new_tokens)
    calls: dict[str, Callable[[], Any]] = {
        timing.OURS: lambda: ours.generate(samples, drawn),
        "transformers": lambda: theirs.generate(samples, drawn),
    }
    times = timing.interleave(calls, rounds)
    tokens = len(ours.prompts) * samples * new_tokens
    rates = {key: round(tokens / float(np.median(value.wall))) for key, value in times.items()}
    account = ours.account
    done = {"images": account.prompts, "prompt positions": account.positions, "passes": account.passes}
    setting |= {
        "answers": samples * len(ours.prompts),
        "new tokens each": new_tokens,
        "tokens/s": rates,
        "computed by ours": done,
        "computed by transformers": theirs.computed(samples, new_tokens),
    }
    return timing.case(name, times, setting)


def main() -> None:
    parser = options.make_parser(__doc__, rounds=7, pairs="questions of the second case")
    parser.add_argument("--candidates", type=options.positive, default=10, help="of the first case, default 10")
    parser.add_argument("--new-tokens", type=options.positive, default=64, help="of every answer, default 64")
    parser.add_argument("--size", choices=tuple(SIZES), default="small", help="of the model, default small")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--cache", choices=CACHE_DTYPES, default="", help="default: --dtype")
    options.add_cores(parser)
    options.add_photos(parser)
    chosen = parser.parse_args()

    cores = timing.limit_cores(chosen.cores)
    sizes, dtype = SIZES[chosen.size], chosen.dtype
    same_weights = chosen.size == "small"
    llava, opened, params = model.both(sizes, dtype, real=same_weights)
    params = unstack(params)
    setting = {
        "cores": cores,
        "size": chosen.size,
        "dtype": dtype,
        "cache": chosen.cache or dtype,
        "prompt": Lengths().prompt + sizes.image_tokens,
        "pictures": kind_of_pictures(chosen.photos),
        "device": jax.devices()[0].device_kind,
    }
    cases = []
    for name, questions, samples in (
        (f"{chosen.candidates} candidates, one question", 1, chosen.candidates),
        (f"one answer, {chosen.pairs} questions", chosen.pairs, 1),
    ):
        pairs = make_pairs(questions, sizes, Lengths(), chosen.photos)
        contenders = Ours(opened, params, pairs, sizes, chosen.cache), Theirs(llava, pairs, sizes)
        if same_weights:
            setting["greedy tokens that agree"] = agreement(*contenders, chosen.new_tokens)
        cases.append(measure(name, *contenders, samples, chosen.new_tokens, chosen.rounds, setting))
    timing.report(cases, chosen.json)


if __name__ == "__main__":
    main()
