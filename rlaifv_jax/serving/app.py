"""HTTP: routes, who may come in, how many at once and for how long, and what becomes of those who leave."""

import asyncio
import hmac
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from rlaifv_jax.serving.beams import Beams
from rlaifv_jax.serving.counters import CONTENT_TYPE, Counters
from rlaifv_jax.serving.jobs import Job, Lost, Piece
from rlaifv_jax.serving.pictures import is_web
from rlaifv_jax.serving.prompts import Prompts
from rlaifv_jax.serving.protocol import ApiError, ChatRequest, parse
from rlaifv_jax.serving.remote import Halt
from rlaifv_jax.serving.replies import Reply, Vocabulary
from rlaifv_jax.serving.seating import Seating

T = TypeVar("T")
Endpoint = Callable[[Request], Awaitable[Response]]

GONE = 499  # status of who does not read it
FETCHERS = 64  # pictures that are fetched at once
SENDING = 30.0  # seconds for the body of a request
DRAINED = 1 << 26  # bytes of a body that is too large that are read on, so that the client comes to read the refusal


@dataclass(frozen=True)
class Options:
    """name: of the model. key: that clients need; '' for none. queue: requests that may wait beside those with seats.
    timeout: seconds from the first byte of a request to the last of its reply. most_body: bytes."""

    name: str
    key: str
    queue: int
    timeout: float
    most_body: int


class Server:
    """`app` is the ASGI application. Its threads, worker and beams, are started and stopped by who makes them."""

    def __init__(self, options: Options, prompts: Prompts, worker: Seating, beams: Beams, counters: Counters):
        self.options, self.prompts, self.worker, self.beams, self.counters = options, prompts, worker, beams, counters
        self.vocabulary = Vocabulary(prompts.speaker.tokenizer)
        self.inside, self.started = 0, time.time()
        self._watch()
        self.readers = ThreadPoolExecutor(2, "reader")  # pictures and texts; few, since pictures are large
        self.fetchers = ThreadPoolExecutor(FETCHERS, "fetcher")  # which wait for others, and hold nobody else up
        routes = [
            Route("/v1/chat/completions", self._counted(self._guarded(self.chat)), methods=["POST"]),
            Route("/v1/models", self._counted(self._guarded(self.models))),
            Route("/v1/models/{name:path}", self._counted(self._guarded(self.models))),
            Route("/health", self.health),
            Route("/metrics", self.metrics),
        ]
        self.app = Starlette(routes=routes, exception_handlers={HTTPException: self._no_such_route})

    # ---- around every request

    def _counted(self, endpoint: Endpoint) -> Endpoint:
        async def count(request: Request) -> Response:
            try:
                response = await endpoint(request)
            except ApiError as error:
                response = JSONResponse(error.body, error.status, error.headers)
            except ClientDisconnect:
                response = Response(status_code=GONE)
            except asyncio.CancelledError:  # by uvicorn alone, when the time to finish is over
                response = JSONResponse(ApiError(503, "the server ends").body, 503)
            self.counters.requests.labels(response.status_code).inc()
            return response

        return count

    def _guarded(self, endpoint: Endpoint) -> Endpoint:
        async def guard(request: Request) -> Response:
            scheme, _, given = request.headers.get("authorization", "").strip().partition(" ")
            same = hmac.compare_digest(given.strip().encode("latin-1"), self.options.key.encode())
            if self.options.key and not (same and scheme.lower() == "bearer"):
                raise ApiError(401, "the API key is wrong, or missing", None, "invalid_api_key")
            return await endpoint(request)

        return guard

    # ---- small routes

    async def models(self, request: Request) -> Response:
        entry = {"id": self.options.name, "object": "model", "created": int(self.started), "owned_by": "rlaifv-jax"}
        name = request.path_params.get("name")
        if name is None:
            return JSONResponse({"object": "list", "data": [entry]})
        self._check_model(name)
        return JSONResponse(entry)

    async def health(self, request: Request) -> Response:
        if not self.worker.healthy:
            return JSONResponse({"status": "the devices failed"}, 503)
        return JSONResponse({"status": "ok"})

    async def metrics(self, request: Request) -> Response:
        return Response(self.counters.text(), media_type=CONTENT_TYPE)

    def _watch(self) -> None:
        for name, text, now in (
            ("requests_inside", "requests that run or wait", lambda: self.inside),
            ("seats", "answers that can be written at once", lambda: self.worker.slots.count),
            ("seats_taken", "answers that are written", lambda: self.worker.running),
            ("beams_running", "whether a request for beams runs", lambda: self.beams.busy),
            ("prefix_cache_bytes", "bytes of the prompts kept", lambda: self.worker.prefixes.bytes),
            ("prefix_cache_entries", "prompts kept", lambda: len(self.worker.prefixes)),
            ("uptime_seconds", "since the server began", lambda: time.time() - self.started),
        ):
            self.counters.watch(name, text, now)

    async def _no_such_route(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        self.counters.requests.labels(error.status_code).inc()
        message = f"{request.method} {request.url.path[:200]}: {error.detail}; /v1/chat/completions takes POST"
        return JSONResponse(ApiError(error.status_code, message).body, error.status_code, error.headers)

    def _check_model(self, name: str) -> None:
        if name != self.options.name:
            message = f"there is no such model here; this server has {self.options.name!r}"
            raise ApiError(404, message, "model", "model_not_found")

    # ---- chat

    async def chat(self, request: Request) -> Response:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise ApiError(415, "the content type must be application/json")
        if not self.worker.healthy:
            raise ApiError(503, "the devices failed; the server has to be started again")
        if self.inside >= self.worker.slots.count + self.options.queue:
            raise ApiError(429, "too many requests wait; try again soon", headers={"Retry-After": "1"})
        self.inside += 1
        answering = _Answering(self)
        try:
            async with asyncio.timeout_at(answering.deadline):
                asked = parse(await self._body(request))
                self._check_model(asked.model)
                response = await _unless_gone(request, answering.respond(asked))
        except BaseException as error:
            answering.end()
            if isinstance(error, TimeoutError):
                raise _late(self.options.timeout) from None
            raise
        if not isinstance(response, StreamingResponse):
            answering.end()
        return response

    async def _body(self, request: Request) -> bytes:
        body, size, most = bytearray(), 0, self.options.most_body
        try:
            async with asyncio.timeout(SENDING):
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > most + DRAINED:
                        break
                    body = body + chunk if size <= most else bytearray()
        except TimeoutError:
            raise ApiError(408, f"the body of the request took longer than {SENDING:g} seconds to come") from None
        if size > most:
            raise ApiError(413, f"the body is too large; at most {most} bytes are taken")
        return bytes(body)


class _Answering:
    """One request from its acceptance to the end of its reply."""

    def __init__(self, server: Server):
        self.server = server
        self.loop = asyncio.get_running_loop()
        self.begun = self.loop.time()
        self.deadline = self.begun + server.options.timeout
        self.pieces: asyncio.Queue[Piece | Lost] = asyncio.Queue()
        self.job: Job | None = None
        self.halt = Halt()  # of what is fetched
        self.ended = False

    def end(self) -> None:
        """The job's seats become free, whatever came of it."""
        if not self.ended:
            self.ended = True
            self.server.inside -= 1
            self.server.counters.seconds.observe(self.loop.time() - self.begun)
            self.halt()
            if self.job:
                self.job.cancelled = True

    def _emit(self, piece: Piece | Lost) -> None:
        """From another thread. A loop that is closed has nobody who waits."""
        if not self.ended:
            with suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self.pieces.put_nowait, piece)

    async def respond(self, asked: ChatRequest) -> Response:
        server = self.server
        prompts, fetched = server.prompts, None
        said = prompts.said(asked)
        if said.url and is_web(said.url[0]):
            fetch = partial(prompts.sources.fetched, *said.url, self.halt)
            fetched = await self.loop.run_in_executor(server.fetchers, fetch)
        found = await self.loop.run_in_executor(server.readers, prompts.understand, asked, said, fetched)
        self.job = Job(
            found.prompt,
            found.settings,
            asked.n,
            found.seed,
            (asked.top_logprobs or 0) if asked.logprobs else None,
            asked.stream,
            self._emit,
        )
        positions = found.prompt.positions
        server.counters.prompt_tokens.inc(positions)
        reply = Reply(server.options.name, positions, server.vocabulary, asked.logprobs)
        (server.beams if found.settings.num_beams > 1 else server.worker).submit(self.job)
        if not asked.stream:
            last = [piece async for piece in self._until_whole(reply) if piece.reason]
            return JSONResponse(reply.whole(last))
        pieces = self._until_whole(reply)
        first = await anext(pieces)  # what fails before it has a status of its own
        usage = asked.stream_options is not None and asked.stream_options.include_usage
        return _Stream(self._events(reply, asked.n, first, pieces, usage), self.end)

    async def _until_whole(self, reply: Reply) -> AsyncIterator[Piece]:
        assert self.job is not None
        left = self.job.samples
        while left:
            piece = await self.pieces.get()
            if isinstance(piece, Lost):
                raise ApiError(500, str(piece))
            reply.see(piece)
            left -= piece.reason is not None
            yield piece

    async def _events(
        self, reply: Reply, answers: int, first: Piece, rest: AsyncIterator[Piece], usage: bool
    ) -> AsyncIterator[bytes]:
        """Server-sent events."""
        for chunk in reply.opening(answers):
            yield _event(chunk)
        try:
            yield _event(reply.chunk(first))
            async with asyncio.timeout_at(self.deadline):
                async for piece in rest:
                    yield _event(reply.chunk(piece))
            if usage:
                yield _event(reply.closing())
        except ApiError as error:
            yield _event(error.body)
        except TimeoutError:
            yield _event(_late(self.server.options.timeout).body)
        yield b"data: [DONE]\n\n"


class _Stream(StreamingResponse):
    def __init__(self, events: AsyncIterator[bytes], end: Callable[[], None]):
        super().__init__(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        self.end = end

    async def __call__(self, *connection: Any) -> None:
        try:
            await super().__call__(*connection)
        except asyncio.CancelledError:
            pass  # see `_counted`; the stream ends where it is
        finally:
            self.end()


def _event(body: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(body, separators=(',', ':'))}\n\n".encode()


def _late(seconds: float) -> ApiError:
    return ApiError(504, f"the answer took longer than {seconds:g} seconds", None, "timeout")


async def _unless_gone(request: Request, work: Awaitable[T]) -> T:
    """The result of `work`. Raises `ClientDisconnect` as soon as nobody waits for it."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    tasks = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0].done():
            return tasks[0].result()
        raise ClientDisconnect
    finally:
        for task in tasks:
            task.cancel()
