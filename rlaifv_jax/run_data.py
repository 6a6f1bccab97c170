"""The pairs of a run: opened, looked through row by row, and divided into those to learn from and those held out."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from etils import epath
from jax.experimental import multihost_utils

from convert.load import StoredModel
from rlaifv_jax import parallel
from rlaifv_jax.cli import say
from rlaifv_jax.data.differences import Differences
from rlaifv_jax.data.encode import Encoder
from rlaifv_jax.data.index import Index, admit, scan
from rlaifv_jax.data.order import generator
from rlaifv_jax.data.schema import Source, open_source
from rlaifv_jax.data.tiles import ImageProcessor
from rlaifv_jax.errors import UserError


@dataclass(frozen=True)
class Data:
    """A source and the rows of it that are used."""

    source: Source
    index: Index


@dataclass(frozen=True)
class Datasets:
    """whole: all usable rows of data.path; train: those that are trained on; held_out: those that are evaluated on, a
    part of `whole` or another source."""

    whole: Data
    train: Data
    held_out: Data | None

    @property
    def sources(self) -> list[Data]:
        """Each source once."""
        if self.held_out is None or self.held_out.source is self.whole.source:
            return [self.whole]
        return [self.whole, self.held_out]


def open_datasets(config: Any, model: StoredModel, encoder: Encoder, output_dir: epath.Path) -> Datasets:
    """All rows are read once, or their index found in OUTPUT_DIR/cache; bad ones are listed in bad_rows.jsonl.

    Raises:
      UserError: files that cannot be used, or nothing left to train on.
    """
    differences = _differences(config, model, encoder)
    look = partial(
        scan,
        encoder=encoder,
        differences=differences,
        workers=config.data.workers,
        cache_dir=output_dir / "cache",
        progress=parallel.is_main(),
    )
    whole = train = _open(config, config.data.path, look)
    held_out = None
    if config.data.eval_path:
        held_out = _open(config, config.data.eval_path, look)
    elif config.data.eval_fraction > 0:
        train, held_out = _split(whole, config.data.eval_fraction, config.seed)
    found = Datasets(whole, train, held_out)
    if parallel.is_main():
        _report_bad_rows(found.sources, output_dir / "bad_rows.jsonl")
        for data in found.sources if differences else ():
            (share, without), weight = data.index.changed_share(), token_weight(config)
            say(
                f"data: {data.index.path}: {share:.1%} of the answers' tokens changed, weight {weight:g}; none in "
                f"{without} pairs"
            )
    for data in found.sources:
        _check_vocabulary(data, model.config.decoder.vocab_size)
    return found


def image_processor(config: Any, model: StoredModel) -> ImageProcessor | None:
    """How the pictures of a run are prepared; None for a model that sees none.

    Raises:
      UserError: a way that the model does not know, or random views of pictures that are not squares.
    """
    if config.data.augment and model.family.sees and "squash" not in model.config.aspect_ratios:
        raise UserError(
            f"data.augment makes a square of every picture, which {model.family.name} cannot see; leave it empty"
        )
    aspect_ratio = config.data.image_aspect_ratio or model.family.training_aspect_ratio
    if config.data.augment:
        aspect_ratio = "squash"
        if model.family.sees and aspect_ratio not in model.config.aspect_ratios:
            raise UserError(
                "data.augment makes one square of a picture, which this model does not take; leave it empty"
            )
    processor: ImageProcessor | None = model.config.processor(aspect_ratio)
    return processor


def token_weight(config: Any) -> float:
    """Of changed tokens. In plain fine-tuning there is nothing that an answer could differ from."""
    return config.dpo.token_weight if config.train.objective == "dpo" else 1.0


def _differences(config: Any, model: StoredModel, encoder: Encoder) -> Differences | None:
    """How the answers of a pair are compared; None where all tokens weigh the same."""
    if token_weight(config) == 1:
        return None
    return Differences(config.dpo.difference, model.family.spread_image, encoder.tokenizer.pad_id)


def _open(config: Any, path: str, look: Callable[[Source], Index]) -> Data:
    main = parallel.is_main()
    source = open_source(path, objective=config.train.objective)
    if not main:
        multihost_utils.sync_global_devices("the first process has scanned the data")  # and left its result
    index = look(source)
    if main:
        multihost_utils.sync_global_devices("the first process has scanned the data")
    index = admit(index, row_length=config.train.row_length, bad_rows=config.data.bad_rows)
    if main:
        truncated = int(index.truncated.any(axis=1).sum())
        say(f"data: {path}: {len(index)} of {index.total} rows, {truncated} with a cut answer")
    return Data(source, index)


def _check_vocabulary(data: Data, rows: int) -> None:
    """A token that the embedding has no row for would be looked up as another one."""
    if int(data.index.highest_tokens.max()) < rows:
        return
    place = int(data.index.highest_tokens.argmax())
    raise UserError(
        f"data: {data.source.path}, row {data.index.rows[place]}: token id {data.index.highest_tokens[place]}, but the "
        f"model's vocabulary has {rows} rows; its tokenizer belongs to another model; bring its own"
    )


def _report_bad_rows(sources: Sequence[Data], file: epath.Path) -> None:
    """The first few of each source on the terminal, all of them in a file."""
    lines = []
    for index in (data.index for data in sources):
        for record in index.bad[:10]:
            say(f"data: left out row {record.row} (id {record.id}): {record.reason}: {record.detail}")
        lines += [json.dumps({"path": index.path, **dataclasses.asdict(record)}) for record in index.bad]
    file.unlink(missing_ok=True)  # of an earlier run
    if lines:
        file.write_text("\n".join(lines) + "\n")
        say(f"data: {len(lines)} rows left out, listed in {file}")


def _split(data: Data, fraction: float, seed: int) -> tuple[Data, Data]:
    """Hold out a share of the rows, chosen by the seed."""
    count = len(data.index)
    held = max(1, round(fraction * count))
    if held >= count:
        raise UserError(
            f"data.eval_fraction={fraction} of {count} rows leaves nothing to train on; choose a smaller one"
        )
    order = generator(seed, 0, purpose="held out").permutation(count)
    return (
        Data(data.source, data.index.take(np.sort(order[held:]))),
        Data(data.source, data.index.take(np.sort(order[:held]))),
    )
