"""The reference stage in one process, over the eight virtual devices."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs import llava15
from rlaifv_jax.data.schema import open_source
from rlaifv_jax.errors import UserError
from rlaifv_jax.logprobs import logprobs
from rlaifv_jax.logps_files import METADATA_KEY, find_shards, read
from tests import world

ROWS = 11


@pytest.fixture(scope="module")
def paths(tmp_path_factory, tokenizer_dir):
    folder = tmp_path_factory.mktemp("reference")
    model = world.write_model(folder / "model", tokenizer_dir)
    other = world.write_model(folder / "other", tokenizer_dir, seed=1)
    data = world.write_pairs(folder / "pairs.parquet", ROWS)
    return {"folder": folder, "model": model, "other": other, "data": data}


def config(paths, output, **changes):
    values = llava15.get_config()
    values.model.path, values.data.path = str(paths["model"]), str(paths["data"])
    values.output_dir = str(paths["folder"] / output)
    values.data.workers, values.precision.compute = 0, "float32"
    values.reference.shard_rows = 4
    values.update_from_flattened_dict({key.replace("__", "."): value for key, value in changes.items()})
    return values


@pytest.fixture(scope="module")
def computed(paths):
    logprobs(config(paths, "run"))
    return paths["folder"] / "run" / "reference"


def test_files_have_the_form_of_the_original(paths, computed):
    names = sorted(path.name for path in computed.iterdir())
    assert names == [f"RLAIF-V-Dataset-withlogp_{i:03}-{n}.parquet" for i, n in enumerate((4, 4, 3))]
    source = pq.read_table(paths["data"])
    written = pa.concat_tables([pq.read_table(computed / name) for name in names])
    assert written.column_names == [*source.column_names, "logps"]
    for column in source.column_names:
        assert written[column].to_pylist() == source[column].to_pylist()
    for text in written["logps"].to_pylist():
        entry = json.loads(text)["logps"]
        assert len(entry) == 6
        for total, mean, tokens in (entry[:3], entry[3:]):
            assert total == pytest.approx(sum(tokens))
            assert mean == pytest.approx(total / len(tokens))
            assert max(tokens) < 0


def test_what_is_written_can_be_read_as_data(computed):
    source = open_source(str(computed))
    stored = source.reference(0)
    references = read(find_shards(_epath(computed)))
    chosen, rejected = references.per_target(0)
    np.testing.assert_allclose(stored.chosen_tokens, chosen)
    assert stored.rejected_sum == pytest.approx(float(rejected.astype(np.float64).sum()))


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"model__path": "other"}, "model"),
        ({"data__template": "vicuna_v1"}, "template or tokenizer"),
        ({"data__image_aspect_ratio": "pad"}, "image preprocessing"),
        ({"precision__compute": "bfloat16"}, "compute precision"),
    ],
)
def test_a_mismatch_is_refused_and_named(paths, computed, change, part):
    if "model__path" in change:
        change = {"model__path": str(paths["other"])}
    other = config(paths, "elsewhere", reference__path=str(computed), **change)
    with pytest.raises(UserError, match=rf"belong to another (model, another )?{part}[.,]"):
        logprobs(other)
    other.reference.trust = True
    logprobs(other)


def test_other_data_is_refused(paths, computed):
    data = world.write_pairs(paths["folder"] / "others.parquet", ROWS, seed=1)
    with pytest.raises(UserError, match="belong to another data"):
        logprobs(config(paths, "elsewhere", reference__path=str(computed), data__path=str(data)))


def test_a_row_taken_out_is_other_data(paths):
    """Numbers of rows shift although every row that is left is the same."""
    answers = ["", *["Fine."] * 9]
    bad = world.write_pairs(paths["folder"] / "shift.parquet", 10, chosen=answers)
    logprobs(config(paths, "shift", data__path=str(bad)))
    pq.write_table(pq.read_table(bad).slice(1), bad)
    with pytest.raises(UserError, match="belong to another data"):
        logprobs(config(paths, "shift", data__path=str(bad)))


def test_a_deleted_or_damaged_file_is_computed_anew(paths):
    again = config(paths, "again")
    logprobs(again)
    files = sorted((paths["folder"] / "again" / "reference").iterdir())
    before = {row: read(find_shards(_epath(files[0].parent))).per_target(row) for row in range(ROWS)}
    files[0].unlink()
    logprobs(again)
    found = read(find_shards(_epath(files[0].parent)))
    for row, pair in before.items():
        np.testing.assert_allclose(np.concatenate(found.per_target(row)), np.concatenate(pair), atol=1e-5)
    files[1].write_bytes(files[1].read_bytes()[:100])
    with pytest.raises(UserError, match=f"{files[1].name} is damaged"):
        logprobs(again)


def test_log_probs_must_be_numbers(paths, computed):
    folder = foreign_cache(paths, computed, float("nan"))
    with pytest.raises(UserError, match=r"those of row 0 .* not finite"):
        logprobs(config(paths, "not-finite", data__path=str(folder)))


def foreign_cache(paths, computed, factor):
    """As the original writes it: no metadata, lists over prompt and image positions, too."""
    table = pa.concat_tables([pq.read_table(path) for path in sorted(computed.iterdir())])
    texts = []
    for text in table["logps"].to_pylist():
        entry = json.loads(text)["logps"]
        for place in (0, 3):
            tokens = [value * factor for value in entry[place + 2]]
            entry[place : place + 3] = [sum(tokens), sum(tokens) / len(tokens), [-9.0] * 30 + tokens]
        texts.append(json.dumps({"logps": entry}))
    table = table.drop_columns(["logps"]).append_column("logps", pa.array(texts)).replace_schema_metadata({})
    folder = paths["folder"] / f"foreign-{factor}"
    folder.mkdir(exist_ok=True)
    pq.write_table(table, folder / "RLAIF-V-Dataset-withlogp_000-11.parquet")
    assert METADATA_KEY not in (pq.read_schema(folder / "RLAIF-V-Dataset-withlogp_000-11.parquet").metadata or {})
    return folder


def test_a_cache_of_the_original_is_checked_then_used(paths, computed, capsys):
    logprobs(config(paths, "adopted", data__path=str(foreign_cache(paths, computed, 1.001))))
    assert "warning: using the `logps` stored in" in capsys.readouterr().err
    assert not (paths["folder"] / "adopted" / "reference").exists()


def test_a_cache_of_another_model_is_refused(paths, computed):
    wrong = config(paths, "refused", data__path=str(foreign_cache(paths, computed, 1.1)))
    with pytest.raises(UserError, match="do not belong to this model: sums of 8 random rows"):
        logprobs(wrong)
    wrong.reference.trust = True
    logprobs(wrong)


def test_foreign_files_as_reference_path_are_explained(paths, computed):
    folder = foreign_cache(paths, computed, 1.0)
    with pytest.raises(UserError, match=r"give that directory as data\.path"):
        logprobs(config(paths, "elsewhere", reference__path=str(folder)))


def _epath(path):
    from etils import epath

    return epath.Path(path)
