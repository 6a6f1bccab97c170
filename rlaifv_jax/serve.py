"""Serve a model to whatever speaks OpenAI's protocol.

    python -m rlaifv_jax.serve --model M                                     at http://127.0.0.1:8000/v1
    python -m rlaifv_jax.serve --model M --host 0.0.0.0 --api-key-file KEY   for others, who need the key

Chat completions with pictures: streams, log-probabilities, several answers, seeds, stop strings; of vLLM's additions
top_k, repetition_penalty, min_tokens, and num_beams. A field that is not supported is refused, never passed over.
Requests that come in while others run join them; an answer does not depend on what else is asked.

Pictures come as data: URLs. --allow-image-urls fetches others from public addresses of the web, --allow-local-images
takes file: URLs below a directory. SIGTERM ends it: nobody new is let in, and what runs is finished, within --grace
seconds. docs/serve.md says the rest.
"""

import argparse
import os
import signal
import socket
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rlaifv_jax import cli
from rlaifv_jax.errors import UserError
from rlaifv_jax.listening import bound, url
from rlaifv_jax.sampling.flags import add_model_flags, check_counts, speaker_options

KEY = "RLAIFV_API_KEY"  # in the environment
MEBI = 1 << 20
LIBRARIES = ("uvicorn", "starlette", "pydantic", "prometheus_client")


def serve(given: argparse.Namespace) -> None:
    """Run the command, until it is asked to end."""
    check(given)
    key = read_key(given.api_key_file)
    for library in LIBRARIES:
        if find_spec(library) is None:
            raise UserError(f"rlaifv_jax.serve needs {library}, which is not here: pip install 'rlaifv-jax[serve]'")
    import uvicorn

    signal.signal(signal.SIGTERM, _end_at_once)
    listener = listen(given.host, given.port)
    server = make_server(given, key)
    config = uvicorn.Config(
        server.app,
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=given.grace,
    )
    served = uvicorn.Server(config)
    # uvicorn hears it from `started` on, and raises it again when it has ended in order.
    signal.signal(signal.SIGTERM, lambda *_: None if served.started else _end_at_once())
    cli.say(f"serving {server.options.name} at {url(listener.getsockname()[0], listener)}/v1")
    try:
        served.run(sockets=[listener])
    finally:
        end(server)
    cli.say("ended")


def make_server(given: argparse.Namespace, key: str) -> Any:
    """A `rlaifv_jax.serving.app.Server` whose threads run and whose programs for short prompts are compiled."""
    from rlaifv_jax.sampling.capacity import LENGTHS
    from rlaifv_jax.sampling.load import Speaker
    from rlaifv_jax.serving.app import Options, Server
    from rlaifv_jax.serving.beams import Beams
    from rlaifv_jax.serving.counters import Counters
    from rlaifv_jax.serving.pictures import Sources
    from rlaifv_jax.serving.prefixes import Prefixes
    from rlaifv_jax.serving.prompts import Limits, Prompts
    from rlaifv_jax.serving.seating import Seating
    from rlaifv_jax.serving.slots import Slots

    speaker = Speaker(given.model, **speaker_options(given))
    longest = min(given.max_prompt, speaker.context - 1, LENGTHS[-1])
    new_tokens = min(given.max_new_tokens, speaker.context - 1)
    cache = given.cache or ""
    slots = Slots(speaker, seats=given.slots, longest_prompt=longest, new_tokens=new_tokens, cache=cache)
    counters, template = Counters(), speaker.prompter.template
    worker = Seating(slots, Prefixes(given.prefix_cache * MEBI), counters, speaker.tokenizer, template)
    beams = Beams(speaker, counters, cache)
    folder = Path(given.allow_local_images) if given.allow_local_images else None
    pixels, body = int(given.max_pixels * 1e6), given.max_body * MEBI
    sources = Sources(given.allow_image_urls, folder, body, pixels, given.timeout)
    prompts = Prompts(speaker, sources, Limits(longest, new_tokens, given.max_n, given.max_beams))
    worker.warm_up(prompts.examples())
    options = Options(given.served_name or given.model, key, given.queue, given.timeout, body)
    worker.start()
    beams.start()
    return Server(options, prompts, worker, beams, counters)


def end(server: Any) -> None:
    """Stop the threads. One that compiles is not waited for: then the process ends at once."""
    for thread in (server.worker, server.beams):
        thread.stop()
    for thread in (server.worker, server.beams):
        thread.join(5)
    for pool in (server.readers, server.fetchers):
        pool.shutdown(wait=False, cancel_futures=True)
    if server.worker.is_alive() or server.beams.is_alive():
        sys.stderr.flush()
        os._exit(0)


def _end_at_once(*_: Any) -> None:
    """An exception could be lost in whatever it falls into, and there is nothing to save."""
    os.write(2, b"stopped by SIGTERM before it served\n")
    os._exit(0)


def listen(host: str, port: int) -> socket.socket:
    """See `bound`. Raises `UserError`."""
    try:
        return bound(host, port)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"--host {host} --port {port} cannot be had: {reason}; choose another") from None


def read_key(file: str | None) -> str:
    """The key that clients need; '' for none. Raises `UserError`."""
    if not file:
        return os.environ.get(KEY, "").strip()
    try:
        key = Path(file).read_text().strip()
    except (OSError, ValueError) as error:
        raise UserError(f"--api-key-file {file} cannot be read ({error}); give a text file") from None
    if not key:
        raise UserError(f"--api-key-file {file} is empty; write the key into it")
    return key


def check(given: argparse.Namespace) -> None:
    """Values that mean nothing. Raises `UserError`."""
    names = ("max_prompt", "max_new_tokens", "max_n", "max_beams", "max_body")
    check_counts(**{name: (getattr(given, name), 1) for name in names})
    more = ("tensor", "slots", "prefix_cache", "queue", "grace", "port")
    check_counts(**{name: (getattr(given, name), 0) for name in more})
    if given.port > 65535:
        raise UserError(f"--port is {given.port}; it must be at most 65535")
    for name in ("timeout", "max_pixels"):
        if not 0 < getattr(given, name) < float("inf"):
            raise UserError(f"--{name.replace('_', '-')} is {getattr(given, name)}; it must be above 0")
    if given.allow_local_images and not os.path.isdir(given.allow_local_images):
        raise UserError(f"--allow-local-images: {given.allow_local_images} is no directory; name one with pictures")


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m rlaifv_jax.serve",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model_flags(parser)
    group = parser.add_argument_group("where")

    def add(name: str, kind: Any, default: Any, text: str) -> None:
        group.add_argument(f"--{name}", type=kind, default=default, help=f"{text} (default {default})")

    add("host", str, "127.0.0.1", "address")
    add("port", int, 8000, "0 takes a free one")
    group.add_argument("--served-name", help="what clients call the model (default: --model)")
    group.add_argument("--api-key-file", help=f"holds the key that clients need (default: ${KEY}, else none)")
    group = parser.add_argument_group("pictures beside those in requests")
    group.add_argument("--allow-image-urls", action="store_true", help="fetch them from public addresses")
    group.add_argument("--allow-local-images", metavar="DIR", help="take file: URLs below this directory")
    group = parser.add_argument_group("how much at once", "memory is taken for --slots of the longest prompts")
    add("slots", int, 0, "answers that are written at once; 0: what memory holds, at most 32")
    add("queue", int, 256, "requests that may wait")
    add("prefix-cache", int, 512, "MiB of prompts that are kept")
    add("grace", int, 30, "seconds to finish what runs, after SIGTERM")
    group = parser.add_argument_group("of a request")
    add("max-prompt", int, 2048, "positions, picture included")
    add("max-new-tokens", int, 1024, "of an answer")
    add("max-n", int, 16, "answers")
    add("max-beams", int, 8, "beams")
    add("max-body", int, 32, "MiB")
    add("max-pixels", float, 50.0, "millions, of a picture")
    add("timeout", float, 300.0, "seconds")
    return parser.parse_args(arguments)


def main() -> None:
    """Entry of the console script `rlaifv-serve`."""
    given = parse_arguments(sys.argv[1:])
    sys.exit(cli.guard(lambda: serve(given)))


if __name__ == "__main__":
    main()
