"""A tiny model directory and tiny pairs on disk, and training commands over them in processes of their own."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.convert.llavas import TinyLlava

ROOT = Path(__file__).parent.parent


def write_model(folder: Path, tokenizer: Path, seed: int = 0) -> Path:
    """A LLaVA in the original layout with random weights and a tokenizer."""
    return TinyLlava(kv_heads=2, vocab=640, seed=seed).write(folder, tokenizer=tokenizer)


def write_pairs(file: Path, count: int = 21, seed: int = 0, **columns: list[Any]) -> Path:
    """Pairs in the RLAIF-V schema, pictures of noise."""
    rng = np.random.default_rng(seed)
    words = [
        "a",
        "dog",
        "cat",
        "tree",
        "red",
        "blue",
        "star",
        "table",
        "plate",
        "water",
        "on",
        "the",
        "left",
        "right",
    ]

    def text(n: int) -> str:
        return " ".join(rng.choice(words, n)).capitalize() + "."

    def picture() -> dict[str, Any]:
        buffer = io.BytesIO()
        size = rng.integers(20, 60, 2)
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(buffer, "PNG")
        return {"bytes": buffer.getvalue(), "path": None}

    table = {
        "ds_name": ["test"] * count,
        "image": [picture() for _ in range(count)],
        "question": [text(4) for _ in range(count)],
        "chosen": [text(rng.integers(3, 12)) for _ in range(count)],
        "rejected": [text(rng.integers(3, 12)) for _ in range(count)],
        "origin_dataset": ["test"] * count,
        "origin_split": ["{}"] * count,
        "idx": [str(100 + row) for row in range(count)],
        "image_path": [""] * count,
        **columns,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(table), file)
    return file


def command(name: str, model: Path, data: Path, output: Path, **settings: Any) -> list[str]:
    """`python -m rlaifv_jax.NAME` with small, fast settings; keyword `a__b=1` is `--config.a.b=1`."""
    small = {
        "model__path": model,
        "data__path": data,
        "output_dir": output,
        "train__batch_pairs": 4,
        "train__steps": 6,
        "checkpoint__every": 2,
        "optim__lr": 1e-3,
        "precision__compute": "float32",
        "data__workers": 0,
    }
    pairs = {**small, **settings}.items()
    flags = [f"--config.{key.replace('__', '.')}={value}" for key, value in pairs]
    return [sys.executable, "-m", f"rlaifv_jax.{name}", "--config=configs/llava15.py", *flags]


def set_keys(config: Any, changes: Mapping[str, Any]) -> None:
    """Set keys of a config: `a__b` stands for a.b."""
    for name, value in changes.items():
        *path, key = name.split("__")
        section = config
        for part in path:
            section = section[part]
        section[key] = value


def environment(devices: int = 1, **extra: str) -> dict[str, str]:
    flags = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
    return {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", **extra}


def run(arguments: list[str], devices: int = 1) -> subprocess.CompletedProcess[str]:
    """Run to the end; the caller looks at the status."""
    return subprocess.run(
        arguments,
        cwd=ROOT,
        env=environment(devices),
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


def run_ok(arguments: list[str], devices: int = 1) -> str:
    done = run(arguments, devices)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


def run_together(arguments: list[str], count: int, devices: int = 1) -> list[str]:
    """The same command in `count` processes joined by jax.distributed; what each said on stderr."""
    ended = end_together(arguments, count, devices)
    assert [status for status, _ in ended] == [0] * count, "\n".join(said[-2000:] for _, said in ended)
    return [said for _, said in ended]


def end_together(arguments: list[str], count: int, devices: int = 1) -> list[tuple[int, str]]:
    """The same, however they end: exit status of each, and what it said."""
    return Job(arguments, count, devices).end()


class Job:
    """A command that runs in one process, or in `count` of them joined by jax.distributed."""

    def __init__(
        self,
        arguments: list[str],
        count: int = 1,
        devices: int = 1,
        extra: Mapping[str, str] | None = None,  # of its environment
        **options: Any,
    ):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            address = f"localhost:{free.getsockname()[1]}"
        self.processes, self.logs = [], [tempfile.TemporaryFile("w+") for _ in range(count)]  # noqa: SIM115
        for rank, log in enumerate(self.logs):
            joined = {"JAX_NUM_PROCESSES": str(count), "JAX_PROCESS_ID": str(rank), "JAX_COORDINATOR_ADDRESS": address}
            env = environment(devices, **(joined if count > 1 else {}), **(extra or {}))
            process = subprocess.Popen(arguments, cwd=ROOT, env=env, stderr=log, text=True, **options)
            self.processes.append(process)

    def __del__(self) -> None:  # a test may fail in between
        self.send(signal.SIGKILL)

    def wait_for(self, ready: Callable[[], bool], seconds: float = 400) -> "Job":
        """Until something holds while the processes run."""

        def ready_or_ended() -> bool:
            holds = ready()
            assert holds or all(process.poll() is None for process in self.processes), self.said()
            return holds

        wait_until(ready_or_ended, seconds)
        return self

    def send(self, how: int) -> "Job":
        for process in self.processes:
            process.send_signal(how)
        return self

    def said(self) -> list[str]:
        for log in self.logs:
            log.seek(0)
        return [log.read() for log in self.logs]

    def end(self, seconds: float = 500) -> list[tuple[int, str]]:
        """Exit status of each process, and what it said on stderr."""
        try:
            statuses = [process.wait(seconds) for process in self.processes]
        finally:
            self.send(signal.SIGKILL)
        return list(zip(statuses, self.said(), strict=True))


def wait_until(ready: Callable[[], bool], seconds: float = 400) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def kill_when(arguments: list[str], ready: Callable[[], bool], how: int = signal.SIGKILL) -> None:
    """Start a command and send it a signal as soon as `ready()` holds."""
    Job(arguments).wait_for(ready).send(how).end(60)


def reached(output: Path) -> int:
    """The last step in metrics.jsonl, of a run that may be writing it."""
    file = output / "metrics.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return max((json.loads(line)["step"] for line in lines if line.endswith("}")), default=0)


def at_step(output: Path, step: int) -> Callable[[], bool]:
    """Whether metrics.jsonl has come to a step."""
    return lambda: reached(output) >= step


def metrics(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def weights(output: Path, step: int) -> dict[str, np.ndarray]:
    """The bfloat16 model of a step, by parameter path."""
    from convert.load import open_model

    leaves = open_model(output / "weights" / str(step)).leaves
    return {path: leaf.read(None) for path, leaf in leaves.items()}
