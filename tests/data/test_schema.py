"""Every form of data file gives the same examples; what fits no form is refused with file, row and column."""

import base64
import io
import json
import pickle
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from rlaifv_jax.data.faults import REASONS, BadRow
from rlaifv_jax.data.schema import open_source
from rlaifv_jax.data.templates import Turn
from rlaifv_jax.errors import UserError

PHOTOS = Path(__file__).parents[3] / "shared/data/photos"
QUESTIONS = ["What is it?", "How many?", "Where?"]


def png(seed):
    buffer = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (6, 7, 3), np.uint8)
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


IMAGES = [png(seed) for seed in range(3)]


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    datasets.disable_progress_bars()


def parquet(folder, rows, name="data.parquet"):
    datasets.Dataset.from_list(rows).to_parquet(folder / name)
    return str(folder / name)


def jsonl(folder, rows, name="data.jsonl"):
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder / name)


def save_images(folder):
    (folder / "img").mkdir(exist_ok=True)
    for number, data in enumerate(IMAGES):
        (folder / f"img/{number}.png").write_bytes(data)


def rlaifv(number, **changes):
    row = {
        "ds_name": "t",
        "image": {"bytes": IMAGES[number], "path": f"img/{number}.png"},
        "question": QUESTIONS[number],
        "chosen": f"good {number}",
        "rejected": f"bad {number}",
        "idx": f"id{number}",
    }
    return row | changes


def user(text, image=True):
    parts = [{"type": "image", "text": None}] if image else []
    return {"role": "user", "content": [*parts, {"type": "text", "text": text}]}


def assistant(text):
    return {"role": "assistant", "content": [{"type": "text", "text": text}]}


def form_rlaifv(folder):
    return parquet(folder, [rlaifv(n) for n in range(3)])


def form_rlaifv_paths_only(folder):
    save_images(folder)
    return parquet(folder, [rlaifv(n, image={"bytes": None, "path": f"img/{n}.png"}) for n in range(3)])


def form_rlaifv_string_paths(folder):
    save_images(folder)
    return parquet(folder, [rlaifv(n, image=f"img/{n}.png") for n in range(3)])


def form_image_feature(folder):
    """As `datasets` writes it: the column is of type Image in the file's metadata."""
    rows = [rlaifv(n) for n in range(3)]
    table = datasets.Dataset.from_list(rows).cast_column("image", datasets.Image())
    table.to_parquet(folder / "data.parquet")
    return str(folder / "data.parquet")


def form_rlhfv(folder):
    rows = []
    for n in range(3):
        row = rlaifv(n)
        text = json.dumps({key: row.pop(key) for key in ("question", "chosen", "rejected")})
        rows.append(row | {"text": text})
    return parquet(folder, rows)


def form_trl_text(folder):
    rows = [
        {"idx": r["idx"], "image": r["image"], "prompt": r["question"]} | {k: r[k] for k in ("chosen", "rejected")}
        for r in map(rlaifv, range(3))
    ]
    return parquet(folder, rows)


def form_trl_messages(folder):
    rows = [
        {
            "idx": r["idx"],
            "images": [r["image"]],
            "prompt": [user(r["question"])],
            "chosen": [assistant(r["chosen"])],
            "rejected": [assistant(r["rejected"])],
        }
        for r in map(rlaifv, range(3))
    ]
    return parquet(folder, rows)


def form_trl_implicit(folder):
    rows = [
        {
            "idx": r["idx"],
            "images": [r["image"]],
            "chosen": [user(r["question"]), assistant(r["chosen"])],
            "rejected": [user(r["question"]), assistant(r["rejected"])],
        }
        for r in map(rlaifv, range(3))
    ]
    return parquet(folder, rows)


def form_jsonl_paths(folder):
    save_images(folder)
    rows = [rlaifv(n) | {"image": f"{n}.png", "image_path": f"img/{n}.png"} for n in range(3)]
    return jsonl(folder, rows)


def form_jsonl_base64(folder):
    return jsonl(folder, [rlaifv(n, image=base64.b64encode(IMAGES[n]).decode()) for n in range(3)])


def form_json_array(folder):
    """An array over several lines, in a file called .jsonl: some pipelines write that."""
    save_images(folder)
    rows = [rlaifv(n, image=f"img/{n}.png") for n in range(3)]
    (folder / "data.jsonl").write_text(json.dumps(rows, indent=1))
    return str(folder / "data.jsonl")


def form_jsonl_trl_messages(folder):
    save_images(folder)
    rows = [
        {
            "idx": f"id{n}",
            "images": [f"img/{n}.png"],
            "prompt": [{"role": "user", "content": f"<image>\n{QUESTIONS[n]}"}],
            "chosen": [{"role": "assistant", "content": f"good {n}"}],
            "rejected": f"bad {n}",
        }
        for n in range(3)
    ]
    return jsonl(folder, rows)


def form_list_of_files(folder):
    parquet(folder, [rlaifv(0)], "a.parquet")
    return [str(folder / "a.parquet"), parquet(folder, [rlaifv(n) for n in (1, 2)], "b.parquet")]


def form_glob(folder):
    form_list_of_files(folder)
    return str(folder / "*.parquet")


def form_directory(folder):
    form_list_of_files(folder)
    (folder / "README.md").write_text("not data")
    jsonl(folder, [rlaifv(0, image=None)], "same_rows.jsonl")
    return str(folder)


FORMS = [value for name, value in sorted(globals().items()) if name.startswith("form_")]


@pytest.mark.parametrize("write", FORMS, ids=lambda write: write.__name__)
def test_every_form_gives_the_same_examples(write, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    source = open_source(write(folder))
    source = pickle.loads(pickle.dumps(source))
    assert len(source) == 3
    for n in (2, 0, 1):
        example = source.example(n)
        assert (example.row, example.id, source.id(n)) == (n, f"id{n}", f"id{n}")
        assert example.image == IMAGES[n]
        assert example.turns == (Turn("user", QUESTIONS[n]),)
        assert example.answers == (f"good {n}", f"bad {n}")
        assert source.example(n, image=False).image is None
        assert set(source.row(n)) == set(source.columns)
    as_sft = open_source(write(folder), objective="sft")
    assert as_sft.example(1).answers == ("good 1",)


@pytest.mark.parametrize(
    "row",
    [
        {"question": "a", "answer": "d"},
        {"question": "<image>\na", "answer": "d"},
        {"messages": [user("a"), assistant("b"), user("c", image=False), assistant("d")]},
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "d"}]},
        {"conversations": [{"from": "human", "value": "<image>\na"}, {"from": "gpt", "value": "d"}]},
        {"conversations": [{"from": "human", "value": "a\n<image>"}, {"from": "gpt", "value": "d"}]},
    ],
    ids=str,
)
def test_sft_forms(row, tmp_path):
    save_images(tmp_path)
    path = jsonl(tmp_path, [{"id": 5, "image": "img/1.png", **row}])
    example = open_source(path, objective="sft").example(0)
    long = len(row.get("messages", ())) == 4
    middle = (Turn("assistant", "b"), Turn("user", "c")) if long else ()
    assert example.turns == (Turn("user", "a"), *middle)
    assert (example.answers, example.image, example.id) == (("d",), IMAGES[1], "5")
    with pytest.raises(UserError, match="fit no form for dpo"):
        open_source(path)


def test_text_only_rows(tmp_path):
    rows = [rlaifv(0, image=None), rlaifv(1, image=None, image_path="")]
    for path in (parquet(tmp_path, rows), jsonl(tmp_path, rows)):
        assert [open_source(path).example(n).image for n in range(2)] == [None, None]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (rlaifv(0, image="img/missing.png"), "image_missing"),
        (rlaifv(0, image="https://example.org/a.png"), "image_missing"),
        (rlaifv(0, image=["img/0.png", "img/1.png"]), "many_images"),
        ({"images": [], "prompt": "<image>\na", "chosen": "b", "rejected": "c"}, "image_missing"),
        ({"prompt": [assistant("a")], "chosen": "b", "rejected": "c"}, "turn_order"),
        ({"prompt": [user("a"), user("b", False)], "chosen": "b", "rejected": "c"}, "turn_order"),
        ({"prompt": [user("a", False), assistant("b")], "chosen": "b", "rejected": "c"}, "turn_order"),
        ({"prompt": "a", "chosen": [user("b")], "rejected": "c"}, "turn_order"),
        ({"prompt": "a", "chosen": [assistant("b"), assistant("c")], "rejected": "c"}, "turn_order"),
        (
            {"prompt": [{"role": "system", "content": "x"}], "chosen": "b", "rejected": "c"},
            "unsupported_role",
        ),
        ({"chosen": [user("a"), assistant("b")], "rejected": [user("z"), assistant("c")]}, "prefix_mismatch"),
        ({"chosen": [user("a"), assistant("b")], "rejected": [user("a")]}, "turn_order"),
        (
            {"prompt": [user("a"), assistant("b"), user("c")], "chosen": "b", "rejected": "c"},
            "image_tag_in_text",
        ),
        (
            {
                "prompt": [{"role": "user", "content": [{"type": "image"}] * 2}],
                "chosen": "b",
                "rejected": "c",
            },
            "many_images",
        ),
        (
            {
                "prompt": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image"}]}],
                "chosen": "b",
                "rejected": "c",
            },
            "image_tag_in_text",
        ),
    ],
    ids=str,
)
def test_bad_rows(row, reason, tmp_path):
    save_images(tmp_path)
    row.pop("image", None) if isinstance(row.get("image"), dict) else None
    source = open_source(jsonl(tmp_path, [row]))
    with pytest.raises(BadRow) as caught:
        source.example(0)
    assert caught.value.reason == reason
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.reason, again.detail) == (reason, caught.value.detail)


def test_reasons_are_a_closed_list():
    with pytest.raises(ValueError, match="unknown reason"):
        BadRow("bad_luck", "…")
    assert all(REASONS.values())


def test_a_file_of_no_known_form_names_its_columns(tmp_path):
    path = parquet(tmp_path, [{"image": "a", "caption": "b"}])
    with pytest.raises(UserError, match=r"data\.parquet, row 0: columns image, caption fit no form.*question, chosen"):
        open_source(path)


def test_a_cell_of_the_wrong_type_names_file_row_column_and_what_was_expected(tmp_path):
    path = jsonl(tmp_path, [rlaifv(0, image=None), rlaifv(1, image=None, chosen=7), rlaifv(2, image=5)])
    source = open_source(path)
    with pytest.raises(UserError, match=r"data\.jsonl, row 1, column 'chosen': expected text, found int"):
        source.example(1)
    with pytest.raises(UserError, match=r"row 2, column 'image': expected an image.*found int"):
        source.example(2)
    path = jsonl(tmp_path, [{"prompt": [3], "chosen": "a", "rejected": "b"}])
    with pytest.raises(UserError, match=r"row 0, column 'prompt\[0\]': expected a message.*found int"):
        open_source(path)  # already the first row tells


def test_files_that_are_not_there_or_not_readable(tmp_path):
    with pytest.raises(UserError, match=r"there is no .*nothing\.parquet"):
        open_source(str(tmp_path / "nothing.parquet"))
    with pytest.raises(UserError, match=r"there is no some/where\.jsonl"):
        open_source("some/where.jsonl")  # no id of the hub
    with pytest.raises(UserError, match=r"holds no \.parquet"):
        open_source(str(tmp_path))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UserError, match="cannot be read as Parquet"):
        open_source(str(tmp_path / "broken.parquet"))
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(UserError, match="has no rows"):
        open_source(str(tmp_path / "empty.jsonl"))
    (tmp_path / "broken.jsonl").write_text(json.dumps({"prompt": "a", "chosen": "b", "rejected": "c"}) + "\n{oops\n")
    source = open_source(str(tmp_path / "broken.jsonl"))
    with pytest.raises(UserError, match=r"broken\.jsonl, row 1: not valid JSON"):
        source.example(1)
    (tmp_path / "list.jsonl").write_text("3\n")
    with pytest.raises(UserError, match=r"row 0: expected a JSON object, found int"):
        open_source(str(tmp_path / "list.jsonl"))
    jsonl(tmp_path, [rlaifv(0, image=None)], "a.jsonl")
    with pytest.raises(UserError, match="mixes files of several kinds"):
        open_source([str(tmp_path / "a.jsonl"), parquet(tmp_path, [rlaifv(0)])])


def test_rows_as_a_table_keep_every_column(tmp_path):
    rows = [rlaifv(n, extra=n) for n in range(3)]
    table = open_source(parquet(tmp_path, rows)).table([2, 0])
    assert table.to_pylist() == [rows[2], rows[0]]
    lines = [{"prompt": "a", "chosen": "b", "rejected": "c", "extra": extra} for extra in (1, "x", [2])]
    lines[1]["late"] = 5
    table = open_source(jsonl(tmp_path, lines)).table(np.arange(3))
    assert table.column("extra").to_pylist() == ["1", "x", "[2]"]
    assert table.column("late").to_pylist() == [None, 5, None]


def test_identity_follows_the_files(tmp_path):
    path = parquet(tmp_path, [rlaifv(0)])
    first = open_source(path).identity
    assert open_source(path).identity == first
    parquet(tmp_path, [rlaifv(0), rlaifv(1)])
    assert open_source(path).identity != first


@pytest.mark.parametrize("wrap", [lambda six: {"logps": six}, lambda six: six], ids=["object", "bare"])
def test_stored_logps(wrap, tmp_path):
    six = wrap([-1.5, -0.5, [-0.5, -1.0], -3.0, -1.0, [-1.0, -1.0, -1.0]])
    stored = json.dumps(six)
    inner = json.dumps({"question": "a", "chosen": "b", "rejected": "c", "logps": six})
    for rows in ([rlaifv(0, logps=stored)], [{"image": {"bytes": IMAGES[0], "path": ""}, "text": inner}]):
        logps = open_source(parquet(tmp_path, rows)).reference(0)
        assert (logps.chosen_sum, logps.chosen_mean, logps.rejected_sum) == (-1.5, -0.5, -3.0)
        assert logps.chosen_tokens.tolist() == [-0.5, -1.0]
        assert logps.rejected_tokens.tolist() == [-1.0, -1.0, -1.0]
    assert open_source(parquet(tmp_path, [rlaifv(0)])).reference(0) is None
    broken = open_source(parquet(tmp_path, [rlaifv(0, logps="[1, 2]")]))
    with pytest.raises(UserError, match="row 0, column 'logps'"):
        broken.reference(0)


@pytest.mark.skipif(not PHOTOS.exists(), reason="the shared photographs are not here")
@pytest.mark.parametrize("name", ["photo_pairs.parquet", "photo_pairs.jsonl"])
def test_real_photographs(name):
    source = open_source(str(PHOTOS / name))
    assert len(source) == 46
    other = open_source(str(PHOTOS / "photo_pairs.parquet"))
    for n in (0, 17, 45):
        example = source.example(n)
        assert example == other.example(n)
        assert example.image is not None
        assert len(example.image) > 1000
        assert example.answers[0] != example.answers[1]
