"""One full DPO step (forward, backward, AdamW) on the same pairs and weights, float32, against PyTorch and TRL.

    python -m benchmarks.train_step --json train_step.json

Contenders: this project, the three of benchmarks/two_rows.py (torch.compile needs a C++ compiler), and, where TRL is
installed, the four of benchmarks/trl_dpo.py. Pixels and tokens are in memory before the clock starts, only the step is
timed.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import jax

from benchmarks import model, timing
from benchmarks.contender import Contender
from benchmarks.model import SMALL, Sizes
from benchmarks.ours import Ours
from benchmarks.pairs import PHOTOS, Lengths, Pair, make_pairs
from benchmarks.recipe import Recipe
from benchmarks.two_rows import CompletionOnly, Original, TwoRowsBest
from rlaifv_jax.models.layers import PLAIN, REMAT_POLICIES, Compute
from rlaifv_jax.ops.attention import BACKENDS, default_backend

POLICY_SEED, REFERENCE_SEED = 0, 1
RECIPE = Recipe()
TWO_ROWS = {"original": Original, "completion_only": CompletionOnly, "two_rows_best": TwoRowsBest}
TRL = {
    "trl": {"precomputed": False, "compact": False},
    "trl_no_reference": {"precomputed": True, "compact": False},
    "trl_compact": {"precomputed": False, "compact": True},
    "trl_compact_no_reference": {"precomputed": True, "compact": True},
}


def installed() -> tuple[str, ...]:
    """Names of the contenders that can run here, ours first."""
    return (timing.OURS, *TWO_ROWS, *(TRL if find_spec("trl") else ()))


def build(name: str, pairs: Sequence[Pair], sizes: Sizes, *, compute: Compute = PLAIN, per_row: int = 1) -> Contender:
    """A contender with weights of its own, equal to everybody's. compute, per_row: for ours, see benchmarks.ours."""
    policy, reference = (model.torch_model(sizes, seed) for seed in (POLICY_SEED, REFERENCE_SEED))
    if name == timing.OURS:
        stored, params = model.ours(policy)
        return Ours(stored, params, model.ours(reference)[1], pairs, sizes, RECIPE, compute, per_row)
    if name in TWO_ROWS:
        return TWO_ROWS[name](policy, reference, pairs, sizes, RECIPE)
    from benchmarks.trl_dpo import Trl

    return Trl(policy, reference, pairs, sizes, RECIPE, **TRL[name])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=8, help="preference pairs in the step")
    parser.add_argument("--per-row", type=int, default=1, help="pairs that share one of our rows")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cores", type=int, default=0, help="0: all this process may use")
    parser.add_argument("--peers", nargs="*", choices=installed()[1:], help="default: all that are installed")
    parser.add_argument("--photos", type=Path, default=PHOTOS, help="a directory with JPEG files")
    parser.add_argument("--remat", choices=REMAT_POLICIES, default="dots", help="what ours keeps of each layer")
    parser.add_argument("--backend", choices=BACKENDS, help="of our attention; default: as in training")
    parser.add_argument("--vocab-block", type=int, default=32000, help="logits that ours has at once, of a token")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    cores = timing.limit_cores(options.cores)
    lengths = Lengths()
    pairs = make_pairs(options.pairs, SMALL, lengths, options.photos)
    backend = options.backend or default_backend(jax.default_backend())
    compute = Compute(backend, backend, options.remat, options.vocab_block)
    names = (timing.OURS, *options.peers) if options.peers else installed()
    entrants = {name: build(name, pairs, SMALL, compute=compute, per_row=options.per_row) for name in names}
    losses = ", ".join(f"{name} {entrant.probe()[0]:.6f}" for name, entrant in entrants.items())
    print(f"loss before the first update: {losses}")
    times = timing.interleave({name: entrant.step for name, entrant in entrants.items()}, options.rounds)
    setting = {
        "pairs": options.pairs,
        "per_row": options.per_row,
        "cores": cores,
        "backend": backend,
        "remat": options.remat,
        "vocab_block": options.vocab_block,
        **asdict(lengths),
        "pictures": "photographs" if any(options.photos.glob("**/*.jpg")) else "rendered",
        "device": jax.devices()[0].platform,
    }
    timing.report([timing.case("DPO step, 23 M parameters, float32", times, setting)], options.json)


if __name__ == "__main__":
    main()
