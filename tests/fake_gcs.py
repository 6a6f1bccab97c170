"""Google Cloud Storage over real HTTP: the part of its JSON API that TensorStore, gcsfs and Google's client use.

In memory and strict: preconditions (ifGenerationMatch, …) are held to, a listing comes in pages, a resumable upload is
seen by nobody before its end, and a bucket that is not there is a 404. Nothing is in order unless the real one has it.
"""

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.http_server import running

PAGE = 50  # objects of a listing; the real one gives up to 1000
BUCKET, FORBIDDEN = "bucket", "forbidden"
NAME = r"/storage/v1/b/(?P<bucket>[^/]+)/o/(?P<name>[^/]+)"
ROUTES = [
    ("GET", r"/storage/v1/b/(?P<bucket>[^/]+)", "bucket"),
    ("GET", r"/storage/v1/b/(?P<bucket>[^/]+)/o", "list"),
    ("GET", rf"(/download)?{NAME}", "get"),
    ("DELETE", NAME, "delete"),
    ("POST", rf"{NAME}/(rewriteTo|copyTo)/b/(?P<to_bucket>[^/]+)/o/(?P<to>[^/]+)", "rewrite"),
    ("POST", rf"{NAME}/moveTo/o/(?P<to>[^/]+)", "move"),
    ("POST", r"/upload/storage/v1/b/(?P<bucket>[^/]+)/o", "upload"),
    ("PUT", r"/upload/storage/v1/b/(?P<bucket>[^/]+)/o", "upload"),
    ("DELETE", r"/upload/storage/v1/b/(?P<bucket>[^/]+)/o", "cancel"),
    ("POST", r"/batch/storage/v1", "batch"),
]
Query = dict[str, str]
Reply = tuple[int, dict[str, str], bytes]


class Refused(Exception):
    """A status and what the real service says with it."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Object:
    name: str
    data: bytes
    generation: int
    when: float

    def about(self, bucket: str) -> dict[str, Any]:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(self.when))
        return {
            "kind": "storage#object",
            "id": f"{bucket}/{self.name}/{self.generation}",
            "name": self.name,
            "bucket": bucket,
            "generation": str(self.generation),
            "metageneration": "1",
            "size": str(len(self.data)),
            "contentType": "application/octet-stream",
            "md5Hash": base64.b64encode(hashlib.md5(self.data).digest()).decode(),
            "etag": f"etag-{self.generation}",
            "timeCreated": stamp,
            "updated": stamp,
        }


@dataclass
class Cloud:
    """fault: (method, path) → a status to fail with, or None. `requests` counts what came, by method and route."""

    fault: Callable[[str, str], int | None] = lambda method, path: None
    buckets: dict[str, dict[str, Object]] = field(default_factory=lambda: {BUCKET: {}, FORBIDDEN: {}})
    requests: dict[str, int] = field(default_factory=dict)
    url: str = ""
    _sessions: dict[str, tuple[str, str, Query, bytearray]] = field(default_factory=dict)
    # A generation; of the clock, as Google's: `datasets` keeps what it has read under them from session to session.
    _last: int = field(default_factory=lambda: time.time_ns() // 1000)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def environment(self) -> dict[str, str]:
        """What sends a process here instead of to Google."""
        return {
            "STORAGE_EMULATOR_HOST": self.url,  # gcsfs and Google's client
            "TENSORSTORE_GCS_HTTP_URL": self.url,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "token",  # TensorStore's
            "GOOGLE_CLOUD_PROJECT": "test",
            "NO_GCE_CHECK": "true",
            # Asks for the kind of a bucket by gRPC, which nobody answers here.
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        }

    def names(self, prefix: str = "") -> list[str]:
        with self._lock:
            return sorted(name for name in self.buckets[BUCKET] if name.startswith(prefix))

    def read(self, name: str) -> bytes:
        with self._lock:
            return self.buckets[BUCKET][name].data

    def tree(self, prefix: str) -> dict[str, bytes]:
        """All below a folder, by the rest of their names."""
        with self._lock:
            found = self.buckets[BUCKET].items()
            return {name.removeprefix(prefix): each.data for name, each in found if name.startswith(prefix)}

    def put(self, name: str, data: bytes, bucket: str = BUCKET) -> Object:
        with self._lock:
            self._last += 1
            made = self.buckets[bucket][name] = Object(name, data, self._last, time.time())
            return made

    # ---------------------------------------------------------------- requests

    def reply(self, method: str, address: str, headers: Mapping[str, str], body: bytes) -> Reply:
        parts = urlsplit(address)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        try:
            if status := self.fault(method, unquote(parts.path)):
                raise Refused(status, "fault")
            for verb, pattern, route in ROUTES:
                found = re.fullmatch(pattern, parts.path)
                if verb == method and found:
                    names = {key: unquote(value) for key, value in found.groupdict().items()}
                    with self._lock:
                        self.requests[route] = self.requests.get(route, 0) + 1
                        return getattr(self, f"_{route}")(query, headers, body, **names)
            raise Refused(501, f"{method} {parts.path} is not part of this stand-in")
        except Refused as error:
            said = {"error": {"code": error.status, "message": str(error), "errors": [{"message": str(error)}]}}
            return error.status, {}, json.dumps(said).encode()

    def _objects(self, bucket: str) -> dict[str, Object]:
        if bucket == FORBIDDEN:
            raise Refused(403, "me@example.com does not have storage.objects.list access to the Google Cloud bucket.")
        if bucket not in self.buckets:
            raise Refused(404, "The specified bucket does not exist.")
        return self.buckets[bucket]

    def _there(self, bucket: str, name: str) -> Object:
        found = self._objects(bucket).get(name)
        if found is None:
            raise Refused(404, f"No such object: {bucket}/{name}")
        return found

    def _check(self, query: Query, found: Object | None, *, reading: bool = False) -> None:
        """The preconditions of a request."""
        generation = found.generation if found else 0
        if "ifGenerationMatch" in query and int(query["ifGenerationMatch"]) != generation:
            raise Refused(412, "At least one of the pre-conditions you specified did not hold.")
        if "ifGenerationNotMatch" in query and int(query["ifGenerationNotMatch"]) == generation:
            raise Refused(304 if reading else 412, "Not modified")

    def _bucket(self, query: Query, headers: Any, body: bytes, bucket: str) -> Reply:
        self._objects(bucket)
        return _json({"kind": "storage#bucket", "id": bucket, "name": bucket, "location": "US"})

    def _list(self, query: Query, headers: Any, body: bytes, bucket: str) -> Reply:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        start, end = query.get("startOffset", ""), query.get("endOffset")
        entries: dict[str, Object | None] = {}  # None: a prefix
        for name, found in sorted(self._objects(bucket).items()):
            if not name.startswith(prefix) or name < start or (end and name >= end):
                continue
            cut = name.find(delimiter, len(prefix)) if delimiter else -1
            if cut < 0:
                entries[name] = found
            else:
                entries[name[: cut + 1]] = None
        after = [name for name in entries if name > query.get("pageToken", "")]
        page = after[: min(PAGE, int(query.get("maxResults", PAGE)))]
        listed: dict[str, Any] = {"kind": "storage#objects"}
        if items := [found.about(bucket) for name in page if (found := entries[name])]:
            listed["items"] = items
        if prefixes := [name for name in page if entries[name] is None]:
            listed["prefixes"] = prefixes
        if len(page) < len(after):
            listed["nextPageToken"] = page[-1]
        return _json(listed)

    def _get(self, query: Query, headers: Mapping[str, str], body: bytes, bucket: str, name: str) -> Reply:
        found = self._there(bucket, name)
        self._check(query, found, reading=True)
        if query.get("alt") != "media":
            return _json(found.about(bucket))
        facts = {"x-goog-generation": str(found.generation), "x-goog-metageneration": "1"}
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", headers.get("Range", ""))
        if not asked or asked.groups() == ("", ""):
            return 200, facts, found.data
        size = len(found.data)
        first = int(asked[1]) if asked[1] else max(size - int(asked[2]), 0)
        last = min(int(asked[2]), size - 1) if asked[1] and asked[2] else size - 1
        if first >= size:
            raise Refused(416, "The requested range cannot be satisfied.")
        return 206, {**facts, "Content-Range": f"bytes {first}-{last}/{size}"}, found.data[first : last + 1]

    def _delete(self, query: Query, headers: Any, body: bytes, bucket: str, name: str) -> Reply:
        self._check(query, self._there(bucket, name))
        del self._objects(bucket)[name]
        return 204, {}, b""

    def _rewrite(
        self, query: Query, headers: Any, body: bytes, bucket: str, name: str, to_bucket: str, to: str
    ) -> Reply:
        data = self._there(bucket, name).data
        self._check(query, self._objects(to_bucket).get(to))
        made = self.put(to, data, to_bucket).about(to_bucket)
        return _json({"kind": "storage#rewriteResponse", "done": True, "resource": made, **made})

    def _move(self, query: Query, headers: Any, body: bytes, bucket: str, name: str, to: str) -> Reply:
        data = self._there(bucket, name).data
        self._check(query, self._objects(bucket).get(to))
        made = self.put(to, data, bucket)
        del self._objects(bucket)[name]
        return _json(made.about(bucket))

    # ---------------------------------------------------------------- uploads

    def _store(self, query: Query, bucket: str, name: str, data: bytes) -> Reply:
        self._check(query, self._objects(bucket).get(name))
        return _json(self.put(name, data, bucket).about(bucket))

    def _upload(self, query: Query, headers: Mapping[str, str], body: bytes, bucket: str) -> Reply:
        self._objects(bucket)
        kind = query.get("uploadType")
        if kind == "media":
            return self._store(query, bucket, query["name"], body)
        if kind == "multipart":
            about, data = _two_parts(headers["Content-Type"], body)
            return self._store(query, bucket, query.get("name") or json.loads(about)["name"], data)
        if kind != "resumable":
            raise Refused(400, f"uploadType {kind}")
        session = query.get("upload_id")
        if session is None:
            self._last += 1
            name = query.get("name") or json.loads(body)["name"]
            self._sessions[str(self._last)] = (bucket, name, query, bytearray())
            where = f"{self.url}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={self._last}"
            return 200, {"Location": where}, b""
        if session not in self._sessions:
            raise Refused(410, "no such upload")
        return self._chunk(session, headers.get("Content-Range", ""), body)

    def _chunk(self, session: str, place: str, body: bytes) -> Reply:
        """One piece of a resumable upload; `place` is 'bytes 0-9/*', or '…/10' for the last."""
        bucket, name, query, data = self._sessions[session]
        found = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", place)
        if found is None or (found[1] and int(found[1]) != len(data)):
            raise Refused(400, f"Content-Range {place!r}, and {len(data)} bytes are there")
        data += body
        if found[2] == "*" or int(found[2]) > len(data):
            return 308, {"Range": f"bytes=0-{len(data) - 1}"} if data else {}, b""
        del self._sessions[session]
        return self._store(query, bucket, name, bytes(data))

    def _cancel(self, query: Query, headers: Any, body: bytes, bucket: str) -> Reply:
        self._sessions.pop(query["upload_id"], None)
        return 499, {}, b""

    def _batch(self, query: Query, headers: Mapping[str, str], body: bytes) -> Reply:
        boundary, pieces = "batch_answer", []
        for number, part in enumerate(_parts(headers["Content-Type"], body)):
            verb, address = part.decode().split("\n", 1)[0].split()[:2]
            status, _, said = self.reply(verb, address, {}, b"")
            pieces.append(
                f"--{boundary}\r\nContent-Type: application/http\r\nContent-ID: <response-{number}>\r\n\r\n"
                f"HTTP/1.1 {status} X\r\nContent-Length: {len(said)}\r\n\r\n{said.decode()}\r\n"
            )
        answer = "".join(pieces) + f"--{boundary}--\r\n"
        return 200, {"Content-Type": f"multipart/mixed; boundary={boundary}"}, answer.encode()


def _json(value: Any) -> Reply:
    return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()


def _parts(content_type: str, body: bytes) -> list[bytes]:
    message = BytesParser().parsebytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    return [part.get_payload(decode=True) for part in message.get_payload()]  # type: ignore[union-attr, misc]


def _two_parts(content_type: str, body: bytes) -> tuple[bytes, bytes]:
    """The metadata and the bytes, just as they are, of a multipart upload."""
    boundary = re.search(r"boundary=[\"']?([^\"';]+)", content_type)
    assert boundary is not None
    mark = b"--" + boundary[1].encode()
    first, rest = body.removeprefix(mark).split(b"\n" + mark, 1)
    data = rest[: rest.rindex(b"\n" + mark + b"--")]
    about, data = (re.split(rb"\r?\n\r?\n", part, maxsplit=1)[1] for part in (first, data))
    return about, data.removesuffix(b"\r")


@contextmanager
def serving(cloud: Cloud) -> Iterator[Cloud]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # connections are kept, or a run opens thousands

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, headers, data = cloud.reply(self.command, self.path, self.headers, body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if status not in (204, 304):
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if status not in (204, 304):
                self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = answer

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *_: Any) -> None:
            pass  # a client that was killed

    with running(Server(("127.0.0.1", 0), Handler)) as cloud.url:
        yield cloud
