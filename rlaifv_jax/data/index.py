"""One pass over all rows before a run: what is usable, how long it is, and a fingerprint of the content.

A run that would meet a broken row after three hours learns of it in the first minutes. The result is small
(about 100 bytes a row) and kept on disk, so that the next start does not read the images again.
"""

import hashlib
import io
import json
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from etils import epath
from tqdm import tqdm

from rlaifv_jax.data import images
from rlaifv_jax.data.differences import Differences
from rlaifv_jax.data.encode import Encoder
from rlaifv_jax.data.faults import BadRow, BadRowRecord
from rlaifv_jax.data.orphans import live_with_parent
from rlaifv_jax.data.packing import Sizes
from rlaifv_jax.data.schema import Example, Source
from rlaifv_jax.errors import UserError

VERSION = 6  # raise when the meaning of a scan changes: old files are then ignored
CHUNK = 32  # rows a worker takes at a time
POOL_FROM = 512  # fewer rows are checked sooner than worker processes have started
ARRAYS = (
    "rows",
    "ids",
    "prefix_lengths",
    "answer_lengths",
    "target_counts",
    "images",
    "truncated",
    "highest_tokens",
    "hashes",
    "changed",
)


@dataclass(frozen=True)
class Index:
    """The usable rows of a source. N rows, A answers each (2 for dpo, 1 for sft)."""

    path: str
    total: int  # rows in the source, bad ones included
    rows: np.ndarray  # int64[N]      number in the source, ascending
    ids: np.ndarray  # str[N]
    prefix_lengths: np.ndarray  # int64[N]      positions of the prefix, image expanded
    answer_lengths: np.ndarray  # int64[N, A]   tokens of each branch
    target_counts: np.ndarray  # int64[N, A]   tokens to predict in each branch
    images: np.ndarray  # int64[N]      tiles of the image, 0 without one
    truncated: np.ndarray  # bool[N, A]    whether the maximum length cut the branch
    highest_tokens: np.ndarray  # int64[N]      largest token id
    hashes: np.ndarray  # uint8[N, 32]  SHA-256 of image bytes, turns and answers
    changed: np.ndarray  # uint8[N, W]   a bit a target, both answers' in a row, 1 where they differ; W = 0: not asked
    bad: tuple[BadRowRecord, ...]
    data_fingerprint: str  # SHA-256 over number and hash of all rows the scan found usable

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> np.ndarray:
        """Positions each example takes in a row: int64[N]."""
        return self.prefix_lengths + self.answer_lengths.sum(1)

    @property
    def sizes(self) -> Sizes:
        """What each example takes of a row."""
        return Sizes(self.lengths, self.target_counts.sum(1), self.images)

    def changed_share(self) -> tuple[float, int]:
        """Share of all targets that are marked as changed, and how many examples have none."""
        counts = np.bitwise_count(self.changed).sum(1, dtype=np.int64)
        return float(counts.sum() / self.target_counts.sum()), int((counts == 0).sum())

    def take(self, positions: np.ndarray) -> "Index":
        """The same index with only the examples at `positions` (int or bool), in the order given."""
        return replace(self, **{name: getattr(self, name)[positions] for name in ARRAYS})


def scan(
    source: Source,
    encoder: Encoder,
    *,
    differences: Differences | None = None,
    workers: int = 0,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Index:
    """Read, decode and encode every row once, in `workers` processes (0: in this one).

    With `differences` the tokens in which the two answers of a row differ are marked, too. Bad rows are collected in
    the index; cells of a wrong type raise `UserError`. With `cache_dir` (local or `gs://`) the result is stored there
    under a key of files, encoder settings, differences and `VERSION`. Images that lie beside the data are
    read in the scan, yet changing one does not change the key.
    """
    read = (source.identity, source.objective, len(source))
    key = (VERSION, *read, encoder.fingerprint, encoder.processor, differences)
    file = None
    if cache_dir is not None:
        file = epath.Path(cache_dir) / f"scan-{hashlib.sha256(repr(key).encode()).hexdigest()[:32]}.npz"
        if (found := _load(file)) is not None:
            return replace(found, path=source.path)
    records = _run(Check(source, encoder, differences), workers, progress)
    index = _collect(source, records)
    if file is not None:
        _save(file, index)
    return index


def admit(
    index: Index,
    *,
    row_length: int = 0,
    bad_rows: Literal["skip", "fatal"] = "skip",
) -> Index:
    """Decide which rows are trained on.

    Examples longer than `row_length` (0: no bound) are bad rows. Raises `UserError` when `bad_rows` is "fatal" and
    there is one, or when nothing is left.
    """
    if bad_rows not in ("skip", "fatal"):
        raise UserError(f"data.bad_rows is {bad_rows!r}; choose 'skip' or 'fatal'")
    bad = list(index.bad)
    if row_length:
        for place in np.flatnonzero(index.lengths > row_length):
            detail = f"{index.lengths[place]} positions do not fit train.row_length={row_length}"
            bad.append(BadRowRecord(int(index.rows[place]), str(index.ids[place]), "longer_than_row", detail))
        index = index.take(index.lengths <= row_length)
    bad.sort(key=lambda record: record.row)
    if bad and bad_rows == "fatal":
        first = bad[0]
        raise UserError(
            f"data: {index.path}, row {first.row} (id {first.id}): {first.reason}: {first.detail}; "
            f"{len(bad)} bad rows in all; set data.bad_rows='skip' to leave them out"
        )
    if not len(index):
        counts = ", ".join(f"{n} {reason}" for reason, n in Counter(r.reason for r in bad).most_common())
        raise UserError(f"data: {index.path}: none of its {index.total} rows can be used ({counts}); {bad[0].detail}")
    return replace(index, bad=tuple(bad))


def content_hash(example: Example) -> bytes:
    """SHA-256 of all that an example feeds to the model, every part led by its length."""
    digest = hashlib.sha256()
    texts = [part for turn in example.turns for part in turn]
    for part in (example.image, *(text.encode() for text in (*texts, *example.answers))):
        digest.update(b"-" if part is None else len(part).to_bytes(8, "little") + part)
    return digest.digest()


# A record is a BadRowRecord, or (row, id, prefix length, answer lengths, target counts, tiles, truncated, highest
# token id, hash, marks of changed targets as packed bits).
Record = BadRowRecord | tuple[Any, ...]


class Check(NamedTuple):
    """What is done with a row."""

    source: Source
    encoder: Encoder
    differences: Differences | None


def _check_row(check: Check, row: int) -> Record:
    source, encoder, differences = check
    try:
        example = source.example(row)
        if example.image is not None:
            size = images.decode(example.image).size
            if encoder.processor:
                encoder.processor.placement(size)  # for its BadRow: where it is always the same nobody else asks
        encoded = encoder.encode(example)
    except BadRow as fault:
        return BadRowRecord(row, source.id(row), fault.reason, fault.detail)
    lengths = [len(answer.tokens) for answer in encoded.answers]
    counts = [int(answer.labels.sum()) for answer in encoded.answers]
    highest, cut, hash_ = encoded.highest_token, encoded.truncated, content_hash(example)
    bits = np.packbits(np.concatenate(differences.marks(encoded))) if differences else np.zeros(0, np.uint8)
    return row, example.id, encoded.prefix_length, lengths, counts, encoded.tiles, cut, highest, hash_, bits


_CHECK: Check | None = None  # what a worker process was started for


def _start_worker(check: Check) -> None:
    global _CHECK
    _CHECK = check
    live_with_parent()


def _check_chunk(rows: range) -> list[Record]:
    assert _CHECK is not None
    return [_check_row(_CHECK, row) for row in rows]


def _run(check: Check, workers: int, progress: bool) -> list[Record]:
    total = len(check.source)
    with tqdm(total=total, unit="row", desc="checking data", disable=not progress) as bar:

        def gather(chunks: Iterable[list[Record]]) -> list[Record]:
            records: list[Record] = []
            for chunk in chunks:
                records += chunk
                bar.update(len(chunk))
            return records

        if workers <= 0 or total < POOL_FROM:
            return gather([_check_row(check, row)] for row in range(total))
        chunks = [range(start, min(start + CHUNK, total)) for start in range(0, total, CHUNK)]
        with ProcessPoolExecutor(
            min(workers, len(chunks)),
            mp_context=multiprocessing.get_context("spawn"),  # fork and a JAX runtime do not mix
            initializer=_start_worker,
            initargs=(check,),
        ) as pool:
            try:
                return gather(pool.map(_check_chunk, chunks))
            except BrokenProcessPool:
                raise UserError("a process that checks the data died: is the memory full? Lower data.workers") from None


def _collect(source: Source, records: list[Record]) -> Index:
    good = [record for record in records if not isinstance(record, BadRowRecord)]
    columns = zip(*good, strict=True) if good else ((),) * 10
    rows, ids, prefixes, lengths, counts, images_, truncated, highest, hashes, bits = columns
    changed = np.zeros((len(good), max(map(len, bits), default=0)), np.uint8)
    for place, each in enumerate(bits):
        changed[place, : len(each)] = each
    answers = 2 if source.objective == "dpo" else 1
    return Index(
        path=source.path,
        total=len(source),
        rows=np.asarray(rows, np.int64),
        ids=np.asarray(ids, np.str_),
        prefix_lengths=np.asarray(prefixes, np.int64),
        answer_lengths=np.asarray(lengths, np.int64).reshape(-1, answers),
        target_counts=np.asarray(counts, np.int64).reshape(-1, answers),
        images=np.asarray(images_, np.int64),
        truncated=np.asarray(truncated, bool).reshape(-1, answers),
        highest_tokens=np.asarray(highest, np.int64),
        hashes=np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 32),
        changed=changed,
        bad=tuple(record for record in records if isinstance(record, BadRowRecord)),
        data_fingerprint=hashlib.sha256(np.asarray(rows, np.int64).tobytes() + b"".join(hashes)).hexdigest(),
    )


def _save(file: epath.Path, index: Index) -> None:
    facts = {
        "path": index.path,
        "total": index.total,
        "data_fingerprint": index.data_fingerprint,
        "bad": [asdict(record) for record in index.bad],
    }
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        facts=np.frombuffer(json.dumps(facts).encode(), np.uint8),
        **{name: getattr(index, name) for name in ARRAYS},
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.{os.getpid()}.part")  # two runs that share a folder do not collide
    part.write_bytes(buffer.getvalue())
    part.replace(file)


def _load(file: epath.Path) -> Index | None:
    """The stored index, or None if there is none that can be read (it is then made again)."""
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return None
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            facts = json.loads(stored["facts"].tobytes())
            bad = tuple(BadRowRecord(**record) for record in facts.pop("bad"))
            return Index(**facts, bad=bad, **{name: stored[name] for name in ARRAYS})
    except Exception as error:  # a damaged file can raise anything
        tqdm.write(f"data: {file} cannot be read ({error}); checking the data again", file=sys.stderr)
        return None
