"""The scan finds every bad row, measures the good ones, and is made again only when something changed."""

import dataclasses
import hashlib

import numpy as np
import pytest

from rlaifv_jax.data import index as index_module
from rlaifv_jax.data.differences import Differences
from rlaifv_jax.data.index import admit, content_hash, scan
from rlaifv_jax.data.schema import open_source
from rlaifv_jax.data.square import Square
from rlaifv_jax.errors import UserError
from tests.data import small

REASONS = {
    2: "empty_answer",
    3: "image_undecodable",
    4: "image_tag_in_text",
    6: "special_token_in_text",
    7: "image_missing",
    8: "answer_truncated_away",
}


EXACT = Differences("answers", spread_image=False, pad=0)


def mixed_source(folder):
    rows = small.good_rows(11)
    rows[2]["rejected"] = None
    rows[4]["question"] = "What is <image> this?"
    rows[6]["chosen"] = "a </s> b"
    rows[7]["image"] = "img/none.png"
    rows[8]["question"] = "too long " * 200
    path = small.write(folder, rows)
    file = folder / "img/3.png"
    file.write_bytes(file.read_bytes()[:60])
    return open_source(path)


def run(source, encoder, **settings):
    return scan(source, encoder, **{"progress": False} | settings)


def same(a, b):
    for field in dataclasses.fields(a):
        np.testing.assert_array_equal(getattr(a, field.name), getattr(b, field.name))


def test_bad_rows_are_found_and_good_ones_measured(tmp_path, tokenizer_dir):
    source, encoder = mixed_source(tmp_path), small.encoder(tokenizer_dir)
    index = run(source, encoder)
    assert {record.row: record.reason for record in index.bad} == REASONS
    assert [record.id for record in index.bad] == [f"id{row}" for row in REASONS]
    assert all(record.detail for record in index.bad)
    assert index.rows.tolist() == [row for row in range(11) if row not in REASONS]
    assert (len(index), index.total) == (5, 11)
    for place, row in enumerate(index.rows):
        encoded = encoder.encode(source.example(row))
        assert index.ids[place] == f"id{row}"
        assert index.prefix_lengths[place] == encoded.prefix_length
        assert index.answer_lengths[place].tolist() == [len(answer.tokens) for answer in encoded.answers]
        assert index.target_counts[place].sum() == encoded.target_count
        assert index.lengths[place] == encoded.row_length
        assert index.hashes[place].tobytes() == content_hash(source.example(row))
    numbered = index.rows.tobytes() + index.hashes.tobytes()
    assert index.data_fingerprint == hashlib.sha256(numbered).hexdigest()


def test_truncated_answers_are_marked(tmp_path, tokenizer_dir):
    source = small.source(tmp_path, 3)
    whole = run(source, small.encoder(tokenizer_dir))
    limit = int((whole.prefix_lengths + whole.answer_lengths.max(1)).max()) - 1
    cut = run(source, small.encoder(tokenizer_dir, max_length=limit))
    assert not whole.truncated.any()
    expected = whole.prefix_lengths[:, None] + whole.answer_lengths > limit
    assert expected.any()
    np.testing.assert_array_equal(cut.truncated, expected)


def test_sft_has_one_answer(tmp_path, tokenizer_dir):
    small.write(tmp_path, small.good_rows(3))
    source = open_source(str(tmp_path / "data.jsonl"), objective="sft")
    index = run(source, small.encoder(tokenizer_dir, "sft"))
    assert index.answer_lengths.shape == (3, 1)


def test_processes_give_the_same_index(tmp_path, tokenizer_dir, monkeypatch):
    monkeypatch.setattr(index_module, "CHUNK", 4)
    monkeypatch.setattr(index_module, "POOL_FROM", 1)
    source, encoder = mixed_source(tmp_path), small.encoder(tokenizer_dir)
    same(run(source, encoder), run(source, encoder, workers=2))
    same(run(source, encoder, differences=EXACT), run(source, encoder, differences=EXACT, workers=2))


def test_changed_targets_are_marked_where_somebody_asks(tmp_path, tokenizer_dir):
    source, encoder = mixed_source(tmp_path), small.encoder(tokenizer_dir)
    plain, index = run(source, encoder), run(source, encoder, differences=EXACT)
    assert plain.changed.shape == (5, 0)
    assert index.changed.shape == (5, -(-index.target_counts.sum(1).max() // 8))
    same(dataclasses.replace(index, changed=plain.changed), plain)
    counts = []
    for place, row in enumerate(index.rows):
        marks = np.concatenate(EXACT.marks(encoder.encode(source.example(row))))
        bits = np.unpackbits(index.changed[place])
        np.testing.assert_array_equal(bits[: len(marks)], marks)
        assert not bits[len(marks) :].any()
        counts.append(marks.sum())
    assert index.changed_share() == (sum(counts) / index.target_counts.sum(), counts.count(0))
    assert sum(counts)
    np.testing.assert_array_equal(index.take(np.array([3, 0])).changed, index.changed[[3, 0]])


def test_marks_have_a_cache_of_their_own(tmp_path, tokenizer_dir):
    source, encoder, cache = mixed_source(tmp_path), small.encoder(tokenizer_dir), tmp_path / "cache"
    assert not run(source, encoder, cache_dir=cache).changed.size
    for mode in ("answers", "padded_batch"):
        asked = {"differences": dataclasses.replace(EXACT, mode=mode), "cache_dir": cache}
        same(run(source, encoder, **asked), run(source, encoder, **asked))
    assert len(list(cache.iterdir())) == 3


def test_a_cut_answer_has_marks_of_what_is_left(tmp_path, tokenizer_dir):
    rows = small.good_rows(1)
    rows[0] |= {"chosen": "red star on a table next to the tree", "rejected": "red star on a plate next to the tree"}
    source = open_source(small.write(tmp_path, rows))
    whole = run(source, small.encoder(tokenizer_dir), differences=EXACT)
    limit = int((whole.prefix_lengths + whole.answer_lengths.min(1))[0]) - 2
    cut = run(source, small.encoder(tokenizer_dir, max_length=limit), differences=EXACT)
    assert cut.truncated.all()
    assert cut.target_counts.sum() < whole.target_counts.sum()
    marks = EXACT.marks(small.encoder(tokenizer_dir, max_length=limit).encode(source.example(0)))
    bits = np.unpackbits(cut.changed[0], count=cut.target_counts.sum())
    np.testing.assert_array_equal(bits, np.concatenate(marks))
    assert bits.any()


def test_the_cache_serves_until_data_or_settings_change(tmp_path, tokenizer_dir, monkeypatch):
    source, encoder = mixed_source(tmp_path / "a"), small.encoder(tokenizer_dir)
    first = run(source, encoder, cache_dir=tmp_path / "cache")
    (stored,) = (tmp_path / "cache").iterdir()
    calls = []
    work = index_module._run
    monkeypatch.setattr(index_module, "_run", lambda *args: calls.append(1) or work(*args))
    same(run(source, encoder, cache_dir=tmp_path / "cache"), first)
    assert not calls
    run(source, small.encoder(tokenizer_dir, max_length=400), cache_dir=tmp_path / "cache")
    larger = dataclasses.replace(encoder, processor=Square.of(small.SIZE + 1, small.PATCHES))
    run(source, larger, cache_dir=tmp_path / "cache")
    assert len(calls) == 2
    small.write(tmp_path / "a", small.good_rows(4))
    again = run(open_source(source.path), encoder, cache_dir=tmp_path / "cache")
    assert (len(calls), len(again)) == (3, 4)
    assert stored.exists()
    assert not list((tmp_path / "cache").glob("*.part"))


def test_a_damaged_cache_is_made_again(tmp_path, tokenizer_dir):
    source, encoder = small.source(tmp_path, 3), small.encoder(tokenizer_dir)
    first = run(source, encoder, cache_dir=tmp_path / "cache")
    (stored,) = (tmp_path / "cache").iterdir()
    whole = stored.read_bytes()
    stored.write_bytes(whole[: len(whole) // 2])
    same(run(source, encoder, cache_dir=tmp_path / "cache"), first)
    assert len(stored.read_bytes()) == len(whole)


def test_the_hash_covers_everything(tmp_path, tokenizer_dir):
    example = small.source(tmp_path, 2).example(1)
    changes = [
        {"image": example.image + b"x"},
        {"image": None},
        {"answers": example.answers[::-1]},
        {"answers": (example.answers[0] + example.answers[1], "")},
        {"turns": (example.turns[0]._replace(text="other"),)},
    ]
    hashes = {content_hash(dataclasses.replace(example, **change)) for change in changes}
    assert len(hashes | {content_hash(example)}) == len(changes) + 1
    assert content_hash(dataclasses.replace(example, row=9, id="z")) == content_hash(example)


def test_admit_skips_or_stops(tmp_path, tokenizer_dir):
    index = run(mixed_source(tmp_path), small.encoder(tokenizer_dir))
    admitted = admit(index)
    assert len(admitted) == 5
    with pytest.raises(UserError, match=r"data\.jsonl, row 2 \(id id2\): empty_answer: .*6 bad rows"):
        admit(index, bad_rows="fatal")
    with pytest.raises(UserError, match="choose 'skip' or 'fatal'"):
        admit(index, bad_rows="ignore")


def test_admit_leaves_out_what_does_not_fit_the_row(tmp_path, tokenizer_dir):
    index = run(small.source(tmp_path), small.encoder(tokenizer_dir))
    limit = int(np.median(index.lengths))
    admitted = admit(index, row_length=limit)
    long = index.rows[index.lengths > limit]
    assert admitted.lengths.max() <= limit
    assert len(long)
    assert [(record.row, record.reason) for record in admitted.bad] == [(r, "longer_than_row") for r in long]
    assert admitted.data_fingerprint == index.data_fingerprint  # of the data, not of the row
    with pytest.raises(UserError, match=rf"row {long[0]} \(id id{long[0]}\): longer_than_row"):
        admit(index, row_length=limit, bad_rows="fatal")
    with pytest.raises(UserError, match=r"none of its 11 rows can be used \(11 longer_than_row\)"):
        admit(index, row_length=8)


def test_no_good_row_at_all(tmp_path, tokenizer_dir):
    rows = [row | {"chosen": ""} for row in small.good_rows(2)]
    index = run(open_source(small.write(tmp_path, rows)), small.encoder(tokenizer_dir))
    assert len(index) == 0
    with pytest.raises(UserError, match=r"none of its 2 rows can be used \(2 empty_answer\)"):
        admit(index)


def test_a_wrong_type_stops_the_scan(tmp_path, tokenizer_dir, monkeypatch):
    monkeypatch.setattr(index_module, "POOL_FROM", 1)
    rows = small.good_rows(3)
    rows[2]["chosen"] = 7
    source = open_source(small.write(tmp_path, rows))
    for workers in (0, 1):
        with pytest.raises(UserError, match="row 2, column 'chosen': expected text, found int"):
            run(source, small.encoder(tokenizer_dir), workers=workers)


def test_take_keeps_arrays_together(tmp_path, tokenizer_dir):
    index = run(small.source(tmp_path), small.encoder(tokenizer_dir))
    part = index.take(np.array([7, 2]))
    assert part.rows.tolist() == index.rows[[7, 2]].tolist()
    assert part.lengths.tolist() == index.lengths[[7, 2]].tolist()
    assert part.data_fingerprint == index.data_fingerprint
