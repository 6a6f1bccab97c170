"""The pages: a list of entries, one entry, and its picture. Everything is read-only."""

import math
import threading
from collections import OrderedDict
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from rlaifv_jax import __version__
from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.errors import UserError
from rlaifv_jax.pages import digest, render
from rlaifv_jax.view import photos
from rlaifv_jax.view.entry import Entry, Set, Unknown
from rlaifv_jax.view.found import LENGTHS, PAGE, SORTS, Found, Query
from rlaifv_jax.view.why import FATES
from rlaifv_jax.view.words import Pieces, differences

SEARCHES = 8  # kept, so that their next pages go on where they are
SCRIPT = "view.js"
POLICY = (
    f"default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; script-src '{digest(SCRIPT)}'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class OnlyNamed:
    """Refuses requests whose Host is a name that is not ours: a page elsewhere may have let its own name point here, to
    read what is shown. Addresses in numbers are nobody's name."""

    def __init__(self, app: ASGIApp, names: frozenset[str]):
        self._app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = dict(scope.get("headers", ())).get(b"host", b"").decode("latin-1")
        if scope["type"] != "http" or self._is_ours(host):
            await self._app(scope, receive, send)
            return
        await PlainTextResponse("This host name is not served here.", 421)(scope, receive, send)

    def _is_ours(self, host: str) -> bool:
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if name.lower() in self._names:
            return True
        try:
            ip_address(name.removeprefix("[").removesuffix("]"))
        except ValueError:
            return False
        return True


class View:
    """Answers requests about one set."""

    def __init__(self, of: Set):
        self._set = of
        self._default = "kept" if "kept" in of.fates else ""
        self._lock = threading.Lock()
        self._searches: OrderedDict[Query, Found] = OrderedDict()

    def list(self, request: Request) -> Response:
        query, page = self._query(request), _whole(request, "page", 1)
        found = self._found(query)
        start = (page - 1) * PAGE
        addresses = found.some(start, start + PAGE)
        entries = [
            self._shown(self._set.entry(address)) | {"link": self._link(address, query, start + place)}
            for place, address in enumerate(addresses)
        ]
        count = self._count(found)
        pages = None if count is None else math.ceil(count / PAGE)
        return self._page(
            "view_list.html.j2",
            query=query,
            default=Query.of({}, self._default),
            entries=entries,
            found=found,
            count=count,
            start=start,
            page=page,
            pages=pages,
            before=f"/?{query.address(page=page - 1)}" if page > 1 else None,
            after=f"/?{query.address(page=page + 1)}" if found.known > start + PAGE else None,
            again=f"/?{query.address(page=page)}",
            sorts={name: text for name, (text, _) in SORTS.items()},
            lengths={name: text for name, (text, _) in LENGTHS.items()},
            shows=self._shows(),
        )

    def pair(self, request: Request) -> Response:
        address = self._set.from_id(request.path_params["id"])
        entry = self._set.entry(address)
        query, at = self._query(request), _whole(request, "at", -1)
        before = after = count = None
        if at < 0 and self._set.count is not None and not query.asks:
            at = address
        if at >= 0:
            found = self._found(query)
            first = max(at - 1, 0)
            near = found.some(first, at + 2)
            if at - first < len(near) and near[at - first] == address:  # a link may be older than the data
                before = self._link(near[0], query, at - 1) if at else None
                after = self._link(near[-1], query, at + 1) if len(near) > at - first + 1 else None
                count = self._count(found)
        siblings = [self._shown(one) for one in self._set.siblings(address)]
        page = f"/?{query.address(page=max(at, 0) // PAGE + 1)}#pair-{self._set.to_id(address)}"
        return self._page(
            "view_pair.html.j2",
            entry=self._shown(entry),
            picture=self._told(address),
            siblings=siblings,
            list=page,
            place=at + 1 if at >= 0 else None,
            count=count,
            before=before,
            after=after,
        )

    def image(self, request: Request) -> Response:
        address = self._set.from_id(request.path_params["id"])
        try:
            data = self._set.picture(address)
            if data is None:
                content, kind = photos.in_its_place("no picture")
            else:
                content, kind = photos.thumbnail(data) if "small" in request.query_params else photos.whole(data)
        except (BadRow, UserError) as error:
            content, kind = photos.in_its_place(str(error))
        policy = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
        return Response(
            content, media_type=kind, headers={**HEADERS, "Content-Security-Policy": policy, "Cache-Control": "private"}
        )

    def message(self, status: int, text: str) -> Response:
        return self._page("view_message.html.j2", status, message=text)

    def _query(self, request: Request) -> Query:
        return Query.of(request.query_params, self._default)

    def _found(self, query: Query) -> Found:
        with self._lock:
            found = self._searches.pop(query, None) or Found(self._set, query)
            self._searches[query] = found
            while len(self._searches) > SEARCHES:
                self._searches.popitem(last=False)
            return found

    def _count(self, found: Found) -> int | None:
        """How many a search finds, where that is known before all of them are looked at."""
        if found.done:
            return found.known
        query = found.query
        return self._set.fates.get(query.show) if query == Query(show=query.show) else None

    def _link(self, address: int, query: Query, at: int) -> str:
        return f"/pair/{self._set.to_id(address)}?{query.address(at=at)}"

    def _told(self, address: int) -> tuple[str, bool]:
        """Of the picture: what it is, or why there is none; and whether there is one."""
        try:
            data = self._set.picture(address)
            return ("no picture", False) if data is None else (photos.told(data), True)
        except (BadRow, UserError) as error:
            hint = "; say with --images where pictures are" if getattr(error, "reason", "") == "image_missing" else ""
            return f"{error}{hint}", False

    def _shows(self) -> dict[str, str]:
        """What can be chosen to be shown."""
        if not self._set.fates:
            return {"": "all rows", "bad": "rows with a fault"}
        counts = {key: "" if count is None else f" ({count:,})" for key, count in self._set.fates.items()}
        kept = {key: FATES[key] + counts[key] for key in ("kept", "allowed") if key in counts}
        reasons = {key: f"dropped: {FATES[key]}" for key in counts if key not in kept}
        return {"all": "all pairs", **kept, "dropped": "dropped, any reason", **reasons}

    def _shown(self, entry: Entry) -> dict[str, Any]:
        id = self._set.to_id(entry.address)
        texts: list[Pieces] = [[(side.text, False)] for side in entry.sides]
        if len(entry.sides) == 2:
            texts = list(differences(entry.sides[0].text, entry.sides[1].text))
        return {
            "id": id,
            "entry": entry,
            "sides": [{"side": side, "pieces": pieces} for side, pieces in zip(entry.sides, texts, strict=True)],
            "fate": FATES[entry.fate.key] if entry.fate else "",
            "image": f"/image/{id}",
            "link": f"/pair/{id}",
        }

    def _page(self, template: str, status: int = 200, **values: Any) -> Response:
        name = self._set.name.rstrip("/").rsplit("/", 1)[-1]
        content = render(template, version=__version__, set=self._set, name=name, **values)
        return HTMLResponse(content, status, {**HEADERS, "Content-Security-Policy": POLICY})


def create_app(of: Set, names: tuple[str, ...] = ()) -> Starlette:
    """The pages of a set. names: host names under which they are served, beside localhost."""
    view = View(of)

    def no_such(request: Request, error: Exception) -> Response:
        return view.message(404, "There is no such page here.")

    def refused(request: Request, error: Exception) -> Response:
        return view.message(400, str(error))

    return Starlette(
        routes=[
            Route("/", view.list),
            Route("/pair/{id}", view.pair),
            Route("/image/{id}", view.image),
        ],
        middleware=[Middleware(OnlyNamed, names=frozenset({"localhost", *map(str.lower, names)}))],
        exception_handlers={404: no_such, Unknown: no_such, UserError: refused},
    )


def _whole(request: Request, name: str, default: int) -> int:
    """A number of the address. Raises `UserError` where it is none."""
    given: Mapping[str, str] = request.query_params
    text = given.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 12) or int(text) < min(default, 1):
        raise UserError(f"{name} is {text[:20]!r}; it must be a whole number")
    return int(text)
