"""A server under load: clients that ask one question after the other, for a while.

    python -m benchmarks.serve --model M --json serve.json            64 clients for 60 s
    python -m benchmarks.serve --model M --clients 16 --seconds 5

Starts `rlaifv_jax.serve` with the model in a process of its own. Every client asks about one of eight pictures, in one
of twelve texts, and has an answer of 16 to 48 tokens, no fewer and no more; every second one draws, every third
streams. Before the clock starts they do so for a fifth of the time, or longer. What is not a whole answer of status
200 is a failure.
"""

import argparse
import base64
import io
import json
import os
import platform
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from benchmarks import options
from rlaifv_jax.versions import versions

LEAST_WARM_UP = 4.0  # seconds: every prompt has been computed, and every program compiled
PICTURES, QUESTIONS, ASK_AGAIN = 8, 12, "describe the image . what is in the top left ?"


@dataclass
class Load:
    """What clients have seen. seconds: of every answer."""

    seconds: list[float] = field(default_factory=list)
    tokens: int = 0
    failures: list[str] = field(default_factory=list)


def bodies(name: str) -> list[dict[str, Any]]:
    """A request for every picture and question."""
    rng, found = np.random.default_rng(0), []
    for _ in range(PICTURES):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)).save(buffer, "PNG")
        url = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
        for number in range(QUESTIONS):
            parts = [
                {"type": "image_url", "image_url": {"url": url}},
                {"type": "text", "text": ASK_AGAIN + " please" * number},
            ]
            found.append({"model": name, "messages": [{"role": "user", "content": parts}]})
    return found


def ask(connection: HTTPConnection, path: str, body: dict[str, Any], load: Load) -> None:
    """One request."""
    data = json.dumps(body).encode()
    begun = time.perf_counter()
    try:
        connection.request("POST", path, data, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        text = reply.read().decode()
        taken = time.perf_counter() - begun
        if reply.status != 200:
            raise ValueError(f"status {reply.status}: {text[:200]}")
        load.tokens += tokens_of(text, stream="stream" in body)
        load.seconds.append(taken)
    except (OSError, HTTPException, ValueError, LookupError) as error:
        load.failures.append(f"{type(error).__name__}: {error}")
        connection.close()


def tokens_of(text: str, *, stream: bool) -> int:
    """Of a reply that is whole; ValueError or LookupError of another."""
    if not stream:
        return int(json.loads(text)["usage"]["completion_tokens"])
    *events, usage, done = [line[6:] for line in text.split("\n\n") if line]
    reasons = {json.loads(event)["choices"][0]["finish_reason"] for event in events}
    if done != "[DONE]" or not reasons & {"stop", "length"}:
        raise ValueError("a stream that is not whole")
    return int(json.loads(usage)["usage"]["completion_tokens"])


def press(url: str, name: str, clients: int, seconds: float) -> Load:
    """All clients at once, a thread and a connection each: their own work must not be what is measured."""
    choices, parts = bodies(name), urlsplit(url)
    deadline = time.perf_counter() + seconds

    def go_on(number: int) -> Load:
        load, chance = Load(), random.Random(number)
        with closing(HTTPConnection(str(parts.hostname), parts.port, timeout=120)) as connection:
            while time.perf_counter() < deadline:
                length = chance.randint(16, 48)
                body = chance.choice(choices) | {"min_tokens": length, "max_tokens": length}
                body |= {"temperature": chance.choice([0.0, 0.7])}
                if chance.randrange(3) == 0:
                    body |= {"stream": True, "stream_options": {"include_usage": True}}
                ask(connection, f"{parts.path}chat/completions", body, load)
        return load

    with ThreadPoolExecutor(clients) as pool:
        loads = list(pool.map(go_on, range(clients)))
    return Load(
        [taken for load in loads for taken in load.seconds],
        sum(load.tokens for load in loads),
        [failure for load in loads for failure in load.failures],
    )


@contextmanager
def served(model: Path, log: Path, *flags: str, **environment: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """`rlaifv_jax.serve` at a free port, its URL and its process; it is killed afterwards if it has not ended."""
    command = [sys.executable, "-m", "rlaifv_jax.serve", "--model", str(model), "--port", "0", *flags]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stderr=file, env={**os.environ, **environment})
    try:
        while not (found := re.search(r"serving .* at (http\S+)", log.read_text())):
            if process.poll() is not None:
                raise RuntimeError(log.read_text())
            time.sleep(0.05)
        yield f"{found[1]}/", process
    finally:
        process.kill()
        process.wait()


def memory(process: subprocess.Popen[bytes]) -> float:
    """MiB of a process that are in memory."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found
    return round(int(found[1]) / 1024, 1)


def summary(load: Load, clients: int, seconds: float) -> dict[str, Any]:
    """p50 and p99 in milliseconds."""
    p50, p99 = (round(1000 * float(np.percentile(load.seconds or [0.0], share)), 1) for share in (50, 99))
    return {
        "clients": clients,
        "seconds": seconds,
        "requests": len(load.seconds),
        "failures": len(load.failures),
        "first failure": next(iter(load.failures), None),
        "p50 ms": p50,
        "p99 ms": p99,
        "p99/p50": round(p99 / p50, 2) if p50 else None,
        "requests/s": round(len(load.seconds) / seconds, 1),
        "tokens/s": round(load.tokens / seconds, 1),
    }


def measure(model: Path, clients: int, seconds: float, flags: list[str], log: Path) -> dict[str, Any]:
    """Load on a server of its own. Memory is looked at behind the warm-up and at the end."""
    with served(model, log, "--served-name", "tiny", *flags) as (url, process):
        press(url, "tiny", clients, max(LEAST_WARM_UP, seconds / 5))
        before = memory(process)
        load = press(url, "tiny", clients, seconds)
        found = summary(load, clients, seconds) | {"MiB before": before, "MiB after": memory(process)}
        process.send_signal(signal.SIGTERM)
        return found | {"exit status": process.wait(60)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=options.directory, required=True)
    parser.add_argument("--clients", type=options.positive, default=64, help="default 64")
    parser.add_argument("--seconds", type=float, default=60.0, help="default 60")
    parser.add_argument("--log", type=options.new_file, default="/tmp/serve.log", help="what the server says")
    parser.add_argument("--json", type=options.new_file, metavar="FILE", help="write the numbers there too")
    chosen, flags = parser.parse_known_args()
    found = measure(chosen.model, chosen.clients, chosen.seconds, flags, Path(chosen.log))
    found |= {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "versions": versions(("jax", "starlette", "uvicorn")),
        "Python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }
    text = json.dumps(found, indent=1)
    print(text)
    if chosen.json:
        Path(chosen.json).write_text(text + "\n")


if __name__ == "__main__":
    main()
