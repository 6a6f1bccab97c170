"""A server in a process of its own, and the official client."""

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any

import httpx
import openai
from PIL import Image

from benchmarks.serve import served
from tests import world
from tests.sampling.talker import QUESTIONS, pictures

NAME = "tiny"
SMALL = ("--max-prompt", "256", "--max-new-tokens", "600", "--slots", "4")


@dataclass
class Running:
    url: str
    process: "Popen[bytes]"
    log: Path

    def client(self, **options: Any) -> openai.OpenAI:
        return openai.OpenAI(base_url=self.url, **{"api_key": "none", "max_retries": 0, "timeout": 120.0, **options})

    def ask(self, messages: Any, **how: Any) -> Any:
        return self.client().chat.completions.create(model=NAME, messages=messages, **how)

    def post(self, **request: Any) -> httpx.Response:
        return httpx.post(f"{self.url}chat/completions", timeout=120, **request)

    def number(self, name: str) -> float:
        """Of /metrics."""
        lines = httpx.get(self.url.replace("/v1/", "/metrics")).text.splitlines()
        return float(next((line.split()[-1] for line in lines if line.startswith(f"rlaifv_{name} ")), 0))

    def wait_for(self, name: str, value: float) -> None:
        world.wait_until(lambda: self.number(name) == value, 60)


@contextmanager
def running(model: Path, folder: Path, *flags: str, **environment: str) -> Iterator[Running]:
    flags = (*SMALL, "--served-name", NAME, *flags)
    extra = {"XLA_FLAGS": world.environment()["XLA_FLAGS"], "PYTHONPATH": str(world.ROOT), **environment}
    with served(model, folder / "log", *flags, **extra) as (url, process):
        yield Running(url, process, folder / "log")


def picture_url(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def question(number: int = 1) -> list[dict[str, Any]]:
    """What the talker is asked in other tests, too."""
    url = picture_url(pictures(len(QUESTIONS))[number])
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": QUESTIONS[number]}]
    return [{"role": "user", "content": parts}]
