"""What files each benchmark needs: where they come from, how large they are, under which licence, and how to know them.

Nothing here is ever downloaded: these are facts to be told (`python -m eval data`). Hashes stand where we have seen the
file, or know the object id that Git gives it in the original's repository.
"""

from dataclasses import dataclass

RLAIF_V, RLHF_V = "https://github.com/RLHF-V/RLAIF-V", "https://github.com/RLHF-V/RLHF-V"
AMBER = "https://github.com/junyangwang0410/AMBER"
WILD = "https://huggingface.co/datasets/liuhaotian/llava-bench-in-the-wild"
COCO = "https://cocodataset.org"
NON_COMMERCIAL = "CC BY-NC 4.0"


@dataclass(frozen=True)
class Source:
    """name: of the file in the benchmark's folder; a folder's ends with a slash. size: in bytes, 0 where not known.
    sha256: of the whole file. git: its object id (`git hash-object FILE`). rows: how many it must have. optional: what
    is lost without it; empty: it is needed."""

    name: str
    what: str
    origin: str
    licence: str
    size: int = 0
    sha256: str = ""
    git: str = ""
    rows: int = 0
    optional: str = ""


def _pictures(what: str, origin: str, licence: str = "not stated") -> Source:
    return Source("images/", what, origin, licence, optional="only answers from a file can be scored")


def _wild(name: str, what: str, rows: int) -> Source:
    return Source(name, what, WILD, "not stated", rows=rows)


def _amber(name: str, what: str, rows: int = 0) -> Source:
    return Source(name, what, f"{AMBER}/tree/master/data", "Apache-2.0", rows=rows)


def _pope(split: str, more: str = "") -> Source:
    origin = "https://github.com/AoiDragon/POPE/tree/main/output/coco"
    return Source(f"coco_pope_{split}.json", f"3,000 yes/no questions, {split}{more}", origin, "MIT", rows=3000)


_AMBER_BOTH = (
    _amber("annotations.json", "what is in the pictures", 15_220),
    _pictures("1,004 pictures, AMBER_<n>.jpg", f"{AMBER}, link to Google Drive in its README"),
)

SOURCES: dict[str, tuple[Source, ...]] = {
    "object_halbench": (
        Source(
            "obj_halbench_300_with_image.jsonl",
            "300 questions with their pictures",
            f"{RLAIF_V}/tree/main/eval/data",
            f"{NON_COMMERCIAL}; pictures of COCO, terms of Flickr",
            git="cb8e15a81a1ddf720f306fda0decefb1ed80c31f",
            rows=300,
        ),
        Source(
            "object_index.json",
            "true objects of every picture, made once by `python -m eval data object_halbench --coco DIR` from "
            "captions_ and instances_ {train,val}2014.json",
            f"{COCO}, annotations of 2014, a zip of about 240 MB",
            "CC BY 4.0 (annotations)",
        ),
    ),
    "mmhal": (
        Source(
            "mmhal-bench_answer_template.json",
            "96 questions with reference answers",
            "https://huggingface.co/datasets/Shengcao1006/MMHal-Bench, or the same file in RLAIF-V, eval/data",
            "Apache-2.0",
            50_519,
            "28ed24e19ffef292597c35f1dad37760b2e0a088b3b40ca3b50f105fc1b951bb",
            rows=96,
        ),
        _pictures(
            "the 96 pictures, named as the last part of image_src",
            "addresses in image_src of the questions; also in the data set above",
            "of Flickr's photographers",
        ),
    ),
    "refomb": (
        Source(
            "gpt4v_RefoMB_dev_0521.jsonl",
            "99 questions with descriptions and GPT-4V's answers",
            f"{RLAIF_V}/tree/main/eval/data",
            f"{NON_COMMERCIAL}; OpenAI's terms for the answers",
            544_484,
            "f3efb866a4154c284446943d90b93659b936e52e49f1d39cb8ccc45b29496ac6",
            rows=99,
        ),
        _pictures(
            "73 pictures, named as the last part of image_url",
            "addresses in image_url of the questions",
            NON_COMMERCIAL,
        ),
    ),
    "llava_bench_coco": (
        Source(
            "qa90_questions.jsonl",
            "90 questions",
            f"{RLHF_V}/tree/main/eval/data",
            "of LLaVA, Apache-2.0",
            12_242,
            "2a77196696b5602b544244ace9aeac21300513be85b5e53eb2414d00cddbe1c7",
            rows=90,
        ),
        Source(
            "qa90_gpt4_answer.jsonl",
            "GPT-4's answers",
            f"{RLHF_V}/tree/main/eval/data",
            "OpenAI's terms",
            41_305,
            "5fd1a760483fb54e62a717a406add8a986f3e03a40d037b5d6515828cc90dbc5",
            rows=90,
        ),
        Source(
            "caps_boxes_coco2014_val_80.jsonl",
            "captions and boxes of the pictures",
            f"{RLHF_V}/tree/main/eval/data",
            "CC BY 4.0 (COCO's annotations)",
            58_574,
            "818d3df2b52784699bbdc129b6bc68e035d78ff8f5093c3e2ce5e0f726549b15",
            rows=80,
        ),
        _pictures("30 pictures of COCO val2014", COCO, "terms of Flickr"),
    ),
    "llava_bench_wild": (
        _wild("questions.jsonl", "60 questions", 60),
        _wild("context.jsonl", "captions of the 24 pictures", 24),
        _wild("answers_gpt4.jsonl", "GPT-4's answers", 60),
        _pictures("24 pictures", WILD),
    ),
    "amber_generative": (
        _amber("query_generative.json", "1,004 requests for a description", 1004),
        _amber("relation.json", "words that belong together"),
        _amber("safe_words.txt", "words that are no objects"),
        *_AMBER_BOTH,
    ),
    "amber_discriminative": (_amber("query_discriminative.json", "14,216 yes/no questions", 14_216), *_AMBER_BOTH),
    "pope": (
        _pope("random", " (an older file has 2,910)"),
        _pope("popular"),
        _pope("adversarial"),
        _pictures("500 pictures of COCO val2014", COCO, "terms of Flickr"),
    ),
    "mmstar": (
        Source(
            "mmstar.parquet",
            "1,500 four-option questions with their pictures",
            "https://huggingface.co/datasets/Lin-Chen/MMStar",
            "not stated; ask the owners",
            rows=1500,
        ),
    ),
}
