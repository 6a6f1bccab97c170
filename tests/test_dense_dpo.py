"""Dense DPO on data in the form of RLHF-V: whole runs, and reference log-probs that the original can read."""

import json
import re
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from etils import epath

from configs import llava15, rlhfv
from rlaifv_jax.config_values import check_values
from rlaifv_jax.data.differences import MODES
from rlaifv_jax.data.schema import open_source
from rlaifv_jax.errors import UserError
from rlaifv_jax.logprobs import logprobs
from rlaifv_jax.logps_files import add_to_text, find_shards, read
from rlaifv_jax.prepare import prepare
from rlaifv_jax.train import train
from tests import world

COUNT = 12
SETTINGS = {"dpo__token_weight": 5.0, "dpo__average": True, "train__steps": 4, "checkpoint__every": 2}


def corrections() -> dict[str, list[str]]:
    """Answers of which one word is corrected, of two pairs none, and of one some are only added."""
    chosen = [f"There is a red star on the {word} next to the tree." for word in ("table", "plate", "water")] * 4
    rejected = [text.replace("red", "blue") for text in chosen]
    rejected[3], rejected[7] = chosen[3], chosen[7]
    rejected[5] = chosen[5].replace("star", "star in the picture")
    chosen[9], rejected[9] = (f"A {color} star on the table next to the tree." for color in ("red", "blue"))
    return {"chosen": chosen, "rejected": rejected}


def as_rlhfv(plain, file):
    """The same pairs with question and answers in one column, in the published order of columns."""
    table = pq.read_table(plain)
    texts = [
        json.dumps({key: row[key] for key in ("question", "chosen", "rejected")})
        for row in table.select(["question", "chosen", "rejected"]).to_pylist()
    ]
    columns = {"ds_name": table["ds_name"], "image": table["image"], "text": pa.array(texts)}
    columns |= {name: table[name] for name in ("origin_dataset", "origin_split")}
    columns |= {"idx": pa.array(range(COUNT), pa.int64()), "image_path": table["image_path"]}
    pq.write_table(pa.table(columns), file)
    return file


@pytest.fixture(scope="module")
def paths(tmp_path_factory, tokenizer_dir):
    folder = tmp_path_factory.mktemp("dense")
    plain = world.write_pairs(folder / "plain.parquet", COUNT, **corrections())
    return {
        "folder": folder,
        "model": world.write_model(folder / "model", tokenizer_dir),
        "plain": plain,
        "rlhfv": as_rlhfv(plain, folder / "rlhfv.parquet"),
    }


def config(paths, output, data="rlhfv", **changes):
    values = llava15.get_config()
    values.model.path, values.data.path = str(paths["model"]), str(paths.get(data, data))
    values.output_dir = str(paths["folder"] / output)
    values.data.workers, values.precision.compute, values.optim.lr = 0, "float32", 1e-3
    values.train.batch_pairs, values.reference.shard_rows = 4, 5
    values.update_from_flattened_dict({key.replace("__", "."): value for key, value in changes.items()})
    return values


def final_weights(paths, output):
    return world.weights(paths["folder"] / output, 4)


@pytest.fixture(scope="module")
def whole(paths):
    """Metrics of an unbroken run."""
    train(config(paths, "whole", **SETTINGS))
    return world.metrics(paths["folder"] / "whole")


def test_a_run_learns_from_changed_tokens(whole):
    first, *_, last = whole
    assert first["loss"] == pytest.approx(np.log(2), abs=1e-6)
    assert last["loss"] < first["loss"]
    assert first["data/unchanged_pairs"] == 3
    assert 0 < first["data/changed_tokens"] < 0.3


def test_it_goes_on_bit_for_bit(paths, whole, capsys):
    unbroken = final_weights(paths, "whole")

    for part in ("checkpoints", "weights"):  # as if killed before step 4 was saved
        shutil.rmtree(paths["folder"] / "whole" / part / "4")
    train(config(paths, "whole", **SETTINGS))
    said = capsys.readouterr().err
    assert "going on from step 2" in said
    assert re.search(r"\d+\.\d% of the answers' tokens changed, weight 5; none in 3 pairs", said)
    assert world.metrics(paths["folder"] / "whole") == whole
    for path, leaf in final_weights(paths, "whole").items():
        np.testing.assert_array_equal(leaf, unbroken[path])

    with pytest.raises(UserError, match=r"another config: dpo\.token_weight \(was 5\.0, now 1\.1\)"):
        train(config(paths, "whole", **SETTINGS | {"dpo__token_weight": 1.1}))


def test_packing_and_the_form_of_the_data_change_nothing(paths, whole):
    train(config(paths, "single", "plain", train__pairs_per_row=1, **SETTINGS))
    for one, other in zip(whole, world.metrics(paths["folder"] / "single"), strict=True):
        for name in ("loss", "logps_train/chosen", "rewards_train/margins"):
            assert one[name] == pytest.approx(other[name], abs=2e-5, rel=1e-5)


def weights_of(loader):
    return {float(weight) for _, batch in loader for weight in np.unique(batch.weights)}


def test_weights_also_count_in_evaluation_and_not_in_fine_tuning(paths):
    run = prepare(config(paths, "held", data__eval_fraction=0.3, **SETTINGS))
    assert weights_of(run.one_pass(run.data.held_out)) == weights_of(run.training_batches(0, None)) == {0, 1, 5}
    run = prepare(config(paths, "sft", train__objective="sft", **SETTINGS))
    assert weights_of(run.training_batches(0, None)) == {0, 1}
    assert not run.data.whole.index.changed.size


def test_another_weight_needs_no_other_scan(paths):
    for weight in (5.0, 1.1):
        prepare(config(paths, "scans", dpo__token_weight=weight))
    assert len(list((paths["folder"] / "scans" / "cache").iterdir())) == 1


def test_changed_tokens_as_the_original_finds_them(paths):
    found = {
        mode: prepare(config(paths, mode, dpo__token_weight=1.1, dpo__difference=mode)).data.whole.index.changed_share()
        for mode in MODES
    }
    assert all(0 < share < 0.4 for share, _ in found.values())
    # Row 9 differs in its second word: the first one continues the prompt, or is too short to match.
    assert found["difflib_autojunk"][0] < found["answers"][0]
    assert found["padded_batch"] == found["difflib_autojunk"]  # of these short pairs, padding ends no common stretch


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dpo__difference": "words"}, "dpo.difference is 'words'; it can be 'answers' or 'difflib_autojunk' or"),
        ({"dpo__token_weight": 0.0}, "dpo.token_weight is 0.0; it must be above 0"),
        ({"dpo__token_weight": float("inf")}, "dpo.token_weight is inf; it must be above 0"),
    ],
)
def test_weights_that_are_none(paths, changes, message):
    with pytest.raises(UserError, match=re.escape(message)):
        train(config(paths, "none", **changes))


def test_both_published_recipes():
    readme, paper = rlhfv.get_config(), rlhfv.get_config("paper")
    for recipe in (readme, paper):
        check_values(recipe)
    assert readme == rlhfv.get_config("readme")
    assert (readme.train.steps, readme.dpo.token_weight, readme.dpo.average) == (2160, 1.1, False)
    assert (paper.train.epochs, paper.dpo.token_weight, paper.dpo.average) == (7, 5, True)
    with pytest.raises(ValueError, match="draft is not known; choose one of readme, paper"):
        rlhfv.get_config("draft")


# ---------------------------------------------------------------- reference log-probs inside `text`


@pytest.fixture(scope="module")
def computed(paths):
    """References of the same pairs in both forms."""
    for data in ("plain", "rlhfv"):
        logprobs(config(paths, f"computed-{data}", data))
    return {data: paths["folder"] / f"computed-{data}" / "reference" for data in ("plain", "rlhfv")}


def test_log_probs_stand_where_muffin_looks_for_them(paths, computed):
    source = pq.read_table(paths["rlhfv"])
    written = pa.concat_tables([pq.read_table(file) for file in sorted(computed["rlhfv"].iterdir())])
    assert written.column_names == source.column_names
    for name in set(source.column_names) - {"text"}:
        assert written[name].to_pylist() == source[name].to_pylist()
    expected = read(find_shards(epath.Path(computed["plain"])))
    for row, (text, before) in enumerate(zip(written["text"].to_pylist(), source["text"].to_pylist(), strict=True)):
        found = json.loads(text)
        assert list(found) == ["question", "chosen", "rejected", "logps"]
        assert {key: found[key] for key in list(found)[:3]} == json.loads(before)
        for (total, mean, tokens), values in zip(
            (found["logps"][:3], found["logps"][3:]), expected.per_target(row), strict=True
        ):
            prompt, answer = tokens[: -len(values)], tokens[-len(values) :]
            assert set(prompt) == {0.0}
            np.testing.assert_allclose(answer, values, atol=2e-5)
            assert total == pytest.approx(sum(answer))
            assert mean == pytest.approx(total / len(answer))


def test_lists_align_with_the_weights_of_whole_conversations(paths, computed):
    """As Muffin multiplies them: list and weights of a conversation have its length less one."""
    run = prepare(config(paths, "aligned", dpo__token_weight=5.0))
    source = open_source(str(computed["rlhfv"]))
    for row in range(COUNT):
        encoded = run.encoder.encode(run.data.whole.source.example(row))
        stored = source.reference(row)
        for answer, tokens in zip(encoded.answers, (stored.chosen_tokens, stored.rejected_tokens), strict=True):
            assert len(tokens) == encoded.prefix_length + len(answer.tokens) - 1
            assert np.flatnonzero(tokens)[0] == encoded.prefix_length - 1


def test_the_reader_takes_its_own_files(computed):
    found, plain = (read(find_shards(epath.Path(computed[data]))) for data in ("rlhfv", "plain"))
    np.testing.assert_array_equal(found.rows, plain.rows)
    np.testing.assert_array_equal(found.starts, plain.starts)
    np.testing.assert_allclose(found.values, plain.values, atol=2e-5)


def test_a_cache_of_muffin_is_checked_then_used(paths, computed, capsys):
    """One file without our metadata, as `{ref_name}_with_logp.parquet` is."""
    folder = paths["folder"] / "muffin"
    folder.mkdir()
    table = pa.concat_tables([pq.read_table(file) for file in sorted(computed["rlhfv"].iterdir())])
    pq.write_table(table.replace_schema_metadata({}), folder / "RLHFV_SFT_with_logp.parquet")
    train(config(paths, "adopted", str(folder), **SETTINGS))
    assert "warning: using the `logps` stored in" in capsys.readouterr().err
    assert not (paths["folder"] / "adopted" / "reference").exists()


def test_log_probs_of_somebody_else_are_replaced(paths, computed):
    """Computed into a reference.path of one's own, no trace of the stored ones is left."""
    table = pa.concat_tables([pq.read_table(file) for file in sorted(computed["rlhfv"].iterdir())])
    stale = table.append_column("logps", pa.array(["[0, 0, [0], 0, 0, [0]]"] * COUNT)).replace_schema_metadata({})
    pq.write_table(stale, paths["folder"] / "stale.parquet")
    output = paths["folder"] / "fresh"
    logprobs(config(paths, "replaced", str(paths["folder"] / "stale.parquet"), reference__path=str(output)))
    found, expected = (read(find_shards(epath.Path(folder))) for folder in (output, computed["plain"]))
    np.testing.assert_allclose(found.values, expected.values, atol=2e-5)
    assert open_source(str(output)).reference(0).chosen_sum == pytest.approx(
        float(expected.per_target(0)[0].sum()), rel=1e-4
    )


def test_what_else_a_text_holds_is_kept_and_a_question_may_be_missing():
    texts = [json.dumps({"note": 1, "chosen": "a", "rejected": "b", "logps": 3})]
    written = add_to_text(pa.table({"text": texts}), [[-1.0, -1.0, [-1.0], -2.0, -2.0, [-2.0]]], [2])
    found = json.loads(written["text"][0].as_py())
    assert list(found) == ["question", "chosen", "rejected", "logps", "note"]
    assert found["question"] == ""
    assert found["logps"] == [-1.0, -1.0, [0.0, 0.0, -1.0], -2.0, -2.0, [0.0, 0.0, -2.0]]


def test_log_probs_that_are_no_lists_are_refused(paths):
    rows = pq.read_table(paths["plain"]).append_column("logps", pa.array(["[1, 1, 5, 1, 1, 5]"] * COUNT))
    pq.write_table(rows, paths["folder"] / "scalar.parquet")
    with pytest.raises(UserError, match="expected JSON of six values"):
        open_source(str(paths["folder"] / "scalar.parquet")).reference(0)
