"""The index of COCO's objects: what is in it, what is refused, and how much memory it takes."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from eval.objects import index
from eval.objects.coco_index import CAPTIONS, INSTANCES, write_index
from eval.objects.extractors import make_extractor
from rlaifv_jax.errors import UserError

NAMES = [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}, {"id": 18, "name": "dog"}]


def annotations(folder: Path) -> Path:
    """Four files: image 42 of val and 7 of train."""
    folder.mkdir(parents=True, exist_ok=True)
    train, val = INSTANCES
    write(folder / train, [{"image_id": 7, "category_id": 3, "segmentation": [[1.5, 2.25]]}], NAMES)
    write(folder / val, [{"image_id": 42, "category_id": 18}, {"image_id": 42, "category_id": 18}], NAMES)
    write(folder / CAPTIONS[0], [{"image_id": 7, "caption": "Two men near scissors on the train tracks."}])
    write(
        folder / CAPTIONS[1],
        [
            {"image_id": 42, "caption": "A Puppy on the couch"},
            {"image_id": 42, "caption": "An iPhone \u2014 and a hot dog."},
            {"image_id": 5, "caption": "nothing of interest"},
        ],
    )
    return folder


def write(file: Path, records: list, categories: list | None = None) -> None:
    content = {"info": {}, "images": [], "annotations": records}
    file.write_text(json.dumps(content | ({"categories": categories} if categories is not None else {})))


def test_classes_of_instances_and_captions_in_both_modes(tmp_path):
    made = write_index(annotations(tmp_path / "coco"), tmp_path / "data" / index.FILE, make_extractor("lexicon"))
    assert made.compat == {
        "7": ["car", "person", "scissors"],
        "42": ["couch", "dog", "hot dog"],
        "5": [],
    }
    assert made.fixed == {**made.compat, "42": ["cell phone", "couch", "dog", "hot dog"]}
    assert made.extractor == "lexicon-1"
    assert set(made.sources) == {*CAPTIONS, *INSTANCES}
    assert all(len(hash_) == 64 for hash_ in made.sources.values())
    assert index.read(tmp_path / "data" / index.FILE) == made


def test_files_may_lie_in_a_folder_annotations(tmp_path):
    annotations(tmp_path / "annotations")
    assert write_index(tmp_path, tmp_path / index.FILE, make_extractor("lexicon")).of("000042")["compat"][0] == "couch"


def test_the_hash_is_that_of_the_file(tmp_path):
    from eval.files import sha256

    made = write_index(annotations(tmp_path), tmp_path / index.FILE, make_extractor("lexicon"))
    assert made.sources[CAPTIONS[0]] == sha256([tmp_path / CAPTIONS[0]])


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        (INSTANCES[1], None, "has no instances_val2014.json"),
        (INSTANCES[1], '{"annotations": [{"image_id": 42, "cat', "no whole JSON"),
        (INSTANCES[1], "version https://git-lfs", "no whole JSON"),
        (INSTANCES[1], "", "no whole JSON"),
        (INSTANCES[1], "{}", "holds no annotations"),
        (INSTANCES[1], '{"annotations": [{"image_id": 42}], "categories": []}', "not as in COCO"),
        (INSTANCES[1], '{"annotations": [{"image_id": 42, "category_id": 9}], "categories": []}', "category 9"),
        (INSTANCES[1], '{"annotations": [], "categories": [{"id": 1, "name": "unicorn"}]}', "no class 'unicorn'"),
        (CAPTIONS[0], '{"annotations": [{"image_id": 42, "caption": null}]}', "not as in COCO"),
        (CAPTIONS[0], '{"annotations": [3]}', "not as in COCO"),
    ],
)
def test_files_that_are_not_as_they_should_be(tmp_path, name, content, fault):
    annotations(tmp_path)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=fault):
        write_index(tmp_path, tmp_path / index.FILE, make_extractor("lexicon"))
    assert not (tmp_path / index.FILE).exists()


def test_the_small_worlds_extractor_is_refused(tmp_path):
    with pytest.raises(UserError, match="shapes-1"):
        write_index(annotations(tmp_path), tmp_path / index.FILE, make_extractor("shapes"))


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"world": "coco"}', '{"compat": 1}'])
def test_an_index_that_is_none(tmp_path, content):
    (tmp_path / index.FILE).write_text(content)
    with pytest.raises(UserError, match="no index of objects"):
        index.read(tmp_path / index.FILE)


def test_an_index_of_another_vocabulary_is_refused(tmp_path):
    index.write(index.ObjectIndex("coco", "lexicon-1", {}, {}, vocabulary="0" * 64), tmp_path / index.FILE)
    with pytest.raises(UserError, match="another vocabulary"):
        index.read(tmp_path / index.FILE)


def test_no_index_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match=r"is not there; build it with"):
        index.read(tmp_path / index.FILE)


def instances(file: Path, megabytes: int) -> None:
    """Annotations with long outlines, as COCO's, of many pictures."""
    outline = [round(random.Random(0).uniform(0, 640), 2) for _ in range(90)]
    with file.open("w") as opened:
        opened.write('{"info": {}, "annotations": [')
        record = {"segmentation": [outline], "area": 1.5, "iscrowd": 0, "bbox": [1.0, 2.0, 3.0, 4.0]}
        size = len(json.dumps(record)) + 50
        for number in range(megabytes * 1_000_000 // size):
            ids = {"image_id": number // 7, "category_id": (1, 3, 18)[number % 3], "id": number}
            opened.write(("," if number else "") + json.dumps(record | ids))
        opened.write('], "categories": ' + json.dumps(NAMES) + "}")


BUILD = """
import resource, sys
from pathlib import Path
from eval.objects.coco_index import write_index
from eval.objects.extractors import make_extractor
extractor = make_extractor("lexicon")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
made = write_index(Path(sys.argv[1]), Path(sys.argv[2]), extractor)
print(len(made.compat), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def test_a_large_file_is_never_in_memory_as_a_whole(tmp_path):
    annotations(tmp_path)
    instances(tmp_path / INSTANCES[0], megabytes=60)
    done = subprocess.run(
        [sys.executable, "-c", BUILD, tmp_path, tmp_path / index.FILE], capture_output=True, text=True, check=True
    )
    pictures, grown = map(int, done.stdout.split())
    assert pictures > 8_000
    assert grown < 60_000_000  # parsed at once it is several times its size
