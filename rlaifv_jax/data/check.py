"""Look through preference or SFT data without training: what form it has, which rows can be used, why others cannot."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from tqdm import tqdm

from rlaifv_jax.data import images
from rlaifv_jax.data.faults import BadRow, BadRowRecord
from rlaifv_jax.data.schema import Objective, Source, open_source


@dataclass(frozen=True)
class Found:
    """What a look through data has found. lines: what else a model tells about its rows."""

    path: str
    form: str
    total: int
    bad: tuple[BadRowRecord, ...]
    lines: tuple[str, ...] = ()

    def told(self) -> Iterator[str]:
        """Lines for a person; each reason with the first row that has it."""
        yield f"{self.path}: the form of {self.form}, {self.total} rows, {self.total - len(self.bad)} can be used"
        yield from self.lines
        for reason, count in Counter(record.reason for record in self.bad).most_common():
            first = next(record for record in self.bad if record.reason == reason)
            yield f"  {count} × {reason}, first row {first.row} (id {first.id}): {first.detail}"


def check_rows(path: str, objective: Objective) -> Found:
    """Read every row and decode every picture; no model is needed.

    Raises:
      UserError: files that are none, columns that fit no form, cells of a wrong type.
    """
    source = open_source(path, objective=objective)
    bad = []
    for row in tqdm(range(len(source)), unit="row", desc="checking data", leave=False):
        try:
            image = source.example(row).image
            if image is not None:
                images.decode(image)
        except BadRow as fault:
            bad.append(BadRowRecord(row, source.id(row), fault.reason, fault.detail))
    return Found(source.path, source.form.name, len(source), tuple(bad))


def check_for_model(path: str, objective: Objective, model: str, template: str, max_length: int, workers: int) -> Found:
    """The check that a run makes of its data, by that model's tokenizer, template and picture processor.

    Raises:
      UserError: as `check_rows`, and a model that cannot be opened.
    """
    from convert.load import open_model
    from rlaifv_jax.data.index import scan
    from rlaifv_jax.data.training_encoder import training_encoder

    source: Source = open_source(path, objective=objective)
    stored = open_model(model)
    family = stored.family
    processor = stored.config.processor(family.training_aspect_ratio)
    encoder = training_encoder(stored, processor, template=template, max_length=max_length, objective=objective)
    index = scan(source, encoder, workers=workers)
    lines: list[str] = []
    if len(index):
        lengths, cut = index.lengths, int(index.truncated.any(axis=1).sum())
        lines = [
            f"  {family.name}: {int(lengths.mean())} positions a row, {int(lengths.max())} at most; "
            f"{cut} rows with an answer cut at {encoder.max_length}"
        ]
    return Found(source.path, source.form.name, index.total, index.bad, tuple(lines))
