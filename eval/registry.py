"""All benchmarks, by the name they have on the command line."""

from eval.amber import AMBER_DISCRIMINATIVE, AMBER_GENERATIVE
from eval.benchmark import Benchmark
from eval.llava_bench import LLAVA_BENCH_COCO, LLAVA_BENCH_WILD
from eval.mmhal import MMHAL
from eval.mmstar import MMSTAR
from eval.object_halbench import OBJECT_HALBENCH
from eval.pope import POPE
from eval.refomb import REFOMB
from rlaifv_jax.errors import UserError

_ALL: tuple[Benchmark, ...] = (
    OBJECT_HALBENCH,
    MMHAL,
    REFOMB,
    LLAVA_BENCH_COCO,
    LLAVA_BENCH_WILD,
    AMBER_GENERATIVE,
    AMBER_DISCRIMINATIVE,
    POPE,
    MMSTAR,
)
BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in _ALL}


def get(name: str) -> Benchmark:
    """Raises `UserError` for a name that no benchmark has."""
    if name not in BENCHMARKS:
        raise UserError(f"no benchmark is called {name!r}; there are {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]
