"""One full DPO step (forward, backward, AdamW) on the same pairs and weights, float32, against PyTorch and TRL.

    python -m benchmarks.train_step --json train_step.json

Contenders: this project, the three of benchmarks/two_rows.py (torch.compile needs a C++ compiler), and, where TRL is
installed, the four of benchmarks/trl_dpo.py. Pixels and tokens are in memory before the clock starts, only the step is
timed.
"""

from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec

import jax

from benchmarks import model, options, timing
from benchmarks.contender import Contender
from benchmarks.model import SMALL, Sizes
from benchmarks.ours import Ours
from benchmarks.pairs import Lengths, Pair, kind_of_pictures, make_pairs
from benchmarks.recipe import Recipe
from benchmarks.two_rows import TWO_ROWS
from rlaifv_jax.models.layers import PLAIN, REMAT_POLICIES, Compute
from rlaifv_jax.ops.attention import DECODER_BACKENDS, default_backend

POLICY_SEED, REFERENCE_SEED = 0, 1
RECIPE = Recipe()
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
    parser = options.make_parser(__doc__, rounds=7, pairs="preference pairs in the step")
    parser.add_argument("--per-row", type=options.positive, default=1, help="pairs that share one of our rows")
    options.add_cores(parser)
    parser.add_argument("--peers", nargs="*", choices=installed()[1:], help="default: all that are installed")
    options.add_photos(parser)
    parser.add_argument("--remat", choices=REMAT_POLICIES, default="dots", help="what ours keeps of each layer")
    parser.add_argument("--backend", choices=DECODER_BACKENDS, help="of our attention; default: as in training")
    parser.add_argument("--vocab-block", type=options.positive, default=32000, help="as train.vocab_block")
    chosen = parser.parse_args()

    cores = timing.limit_cores(chosen.cores)
    lengths = Lengths()
    pairs = make_pairs(chosen.pairs, SMALL, lengths, chosen.photos)
    backend = chosen.backend or default_backend(jax.default_backend())
    compute = Compute(backend, backend, chosen.remat, chosen.vocab_block)
    names = (timing.OURS, *chosen.peers) if chosen.peers else installed()
    entrants = {name: build(name, pairs, SMALL, compute=compute, per_row=chosen.per_row) for name in names}
    losses = ", ".join(f"{name} {entrant.probe()[0]:.6f}" for name, entrant in entrants.items())
    print(f"loss before the first update: {losses}")
    times = timing.interleave({name: entrant.step for name, entrant in entrants.items()}, chosen.rounds)
    setting = {
        "pairs": chosen.pairs,
        "per_row": chosen.per_row,
        "cores": cores,
        "backend": backend,
        "remat": chosen.remat,
        "vocab_block": chosen.vocab_block,
        **asdict(lengths),
        "pictures": kind_of_pictures(chosen.photos),
        "device": jax.devices()[0].platform,
    }
    timing.report([timing.case("DPO step, 23 M parameters, float32", times, setting)], chosen.json)


if __name__ == "__main__":
    main()
