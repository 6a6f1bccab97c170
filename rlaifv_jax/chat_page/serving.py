"""`python -m rlaifv_jax.chat --web`: the models, the page, the server of this machine."""

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlaifv_jax.cli import say
from rlaifv_jax.errors import UserError
from rlaifv_jax.listening import AT_HOME, bound

HOST, PORT = "127.0.0.1", 7860
LARGEST = "25mb"  # of a picture's file


def add_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("in the browser", 'see docs/chat.md; needs pip install "rlaifv-jax[chat]"')
    group.add_argument("--web", action="store_true", help="serve the chat as a page")
    group.add_argument("--compare", metavar="MODEL", help="a second model, which answers beside the first")
    group.add_argument(
        "--labeler", metavar="MODEL", help="judges the claims of several answers; the best is chosen by its P(yes)"
    )
    group.add_argument(
        "--reference",
        metavar="MODEL",
        help="what --model was trained from: the best of several answers by DPO's reward (default: --compare's)",
    )
    sentences = "rlaifv_jax.feedback.sentences"
    group.add_argument(
        "--split",
        metavar="FUNCTION",
        default=f"{sentences}:split",
        help="makes claims of an answer, as divide.by of rlaifv_jax.feedback (default: its sentences, %(default)s)",
    )
    group.add_argument(
        "--ask",
        metavar="FUNCTION",
        default=f"{sentences}:ask",
        help="makes yes/no questions of claims, as question.by there (default: %(default)s)",
    )
    group.add_argument("--check", metavar="FILE", default="", help="how the labeler is asked, as score.prompt there")
    group.add_argument("--host", default=HOST, help="address to serve at; there is no password (default: %(default)s)")
    group.add_argument("--port", type=int, default=PORT, help="0 takes any that is free (default: %(default)s)")


def serve(given: argparse.Namespace) -> None:
    """Run the command until Ctrl-C."""
    if given.question is not None or given.image:
        raise UserError("--web: give questions and pictures on the page, not on the command line")
    blocks = build(given)
    url = launch(blocks, given.host, given.port)
    if given.host not in AT_HOME:
        say(f"whoever reaches {given.host} can use this page: it has no password")
    say(f"open {url}  (Ctrl-C ends it)")
    try:
        while True:
            time.sleep(3600)
    finally:
        blocks.close(verbose=False)


def build(given: argparse.Namespace) -> Any:
    """The page with its models. Raises `UserError`."""
    # Before gradio is there: it would tell its makers, and look whether it is the newest.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import gradio  # noqa: F401
    except ImportError:
        raise UserError('--web needs gradio: pip install "rlaifv-jax[chat]"') from None
    from rlaifv_jax.chat import Chat
    from rlaifv_jax.chat_page.best import Chooser
    from rlaifv_jax.chat_page.claims import Labeler
    from rlaifv_jax.chat_page.desk import Desk
    from rlaifv_jax.chat_page.page import Page
    from rlaifv_jax.feedback.functions import load_function
    from rlaifv_jax.feedback.reading import Reading
    from rlaifv_jax.sampling.flags import changes, speaker_options

    split, ask = load_function(given.split, "--split"), load_function(given.ask, "--ask")
    wanted = changes(given)
    names = [given.model, *([given.compare] if given.compare else [])]

    def opened(model: str) -> Chat:
        chat = Chat(model, **speaker_options(given))
        chat.settings = chat.settings.changed(wanted, chat.speaker.defaults)
        chat.speaker.check_settings(chat.settings)
        _ = chat.speaker.params  # loaded now, and not at the first question
        return chat

    chats = [opened(model) for model in names]
    reference = opened(given.reference) if given.reference else chats[1] if given.compare else None
    reading = Reading(dtype=given.dtype or "", tensor=given.tensor)
    labeler = Labeler(given.labeler, split, ask, given.check, reading) if given.labeler else None
    chooser = Chooser(chats[0], labeler, reference, reading) if labeler or reference else None
    return Page(Desk(chats, chooser), short(names), given.seed, given.cache or "").blocks


def launch(blocks: Any, host: str, port: int) -> str:
    """Serve a page from threads of its own; returns its address. Raises `UserError` where that is taken."""
    from rlaifv_jax.chat_page.page import theme
    from rlaifv_jax.pages import HERE

    try:
        with bound(host, port) as free:  # which gradio cannot find by itself
            port = free.getsockname()[1]
        return blocks.launch(
            server_name=host,
            server_port=port,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            footer_links=[],
            run_history=False,
            max_file_size=LARGEST,
            ssr_mode=False,
            enable_monitoring=False,
            theme=theme(),
            css_paths=[HERE / "chat.css"],
        )[1]
    except OSError:
        raise UserError(f"--port {port} at {host} is taken or not allowed; choose another") from None


def short(models: Sequence[str]) -> list[str]:
    """The last part of every path, or as many as tell them apart."""
    parts = [Path(model.rstrip("/")).parts for model in models]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-count:]) for part in parts]
        if len(set(names)) == len(names):
            break
    return names
