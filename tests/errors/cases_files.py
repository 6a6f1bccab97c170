"""Files that are not what they should be: data, tokenizers, models, questions, records, pictures."""

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from convert.__main__ import parser as convert_parser
from convert.__main__ import run as convert
from convert.load import open_model
from rlaifv_jax.chat import Chat, open_picture
from rlaifv_jax.data.questions import Questions
from rlaifv_jax.data.schema import open_source
from rlaifv_jax.data.tokenizer import load_tokenizer
from rlaifv_jax.feedback.agreement import claims
from rlaifv_jax.records import answer_file, lock, settings, shards
from rlaifv_jax.records.source import Input
from rlaifv_jax.sampling.load import Speaker
from rlaifv_jax.shapes.demo import demo
from rlaifv_jax.shapes.heldout import MODELS

Case = Callable[[Path], Any]


def put(folder: Path, name: str, content: str | bytes | Any) -> str:
    """The name of a file that holds text, bytes, or the JSON of something else."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        file.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(file)


def parquet(folder: Path, name: str, **columns: list[Any]) -> str:
    pq.write_table(pa.table(columns), folder / name)
    return str(folder / name)


def data(name: str, content: Any) -> Case:
    return lambda folder: open_source(put(folder, name, content))


def questions(content: Any) -> Case:
    return lambda folder: list(Questions(put(folder, "q.jsonl", content)).table.names)


def ask_all(folder: Path, *rows: Any) -> None:
    asked = Questions(put(folder, "q.jsonl", "\n".join(map(json.dumps, rows))))
    for row in range(len(rows)):
        asked.question(row)  # type: ignore[attr-defined]


def tokenizer(**files: Any) -> Case:
    """Opens a folder of files; None leaves one out."""

    def case(folder: Path) -> None:
        folder = folder / "tokenizer"
        folder.mkdir()
        base = MODELS / "policy"
        for name in ("tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"):
            (folder / name).write_bytes((base / name).read_bytes())
        for name, content in files.items():
            put(folder, name.replace("__", "."), content)
        load_tokenizer(folder)

    return case


def model(**changes: Any) -> Case:
    """A shipped model with another config.json; a value of ... takes the key away."""

    def case(folder: Path) -> None:
        config = json.loads((MODELS / "policy" / "config.json").read_text())
        for key, value in changes.items():
            *path, last = key.split("__")
            section = config
            for part in path:
                section = section[part]
            if value is ...:
                section.pop(last)
            else:
                section[last] = value
        open_model(with_files(folder, **{"config.json": config}))

    return case


def with_files(folder: Path, **files: Any) -> Path:
    """A folder with the shipped policy's files and others in their place; None takes one away."""
    folder = folder / "model"
    folder.mkdir()
    for file in (MODELS / "policy").iterdir():
        if file.name not in files:
            (folder / file.name).symlink_to(file)
    for name, content in files.items():
        if content is not None:
            put(folder, name, content)
    return folder


def weights(**files: Any) -> Case:
    return lambda folder: open_model(with_files(folder, **{"model.safetensors": None, **files}))


def torch_zip(content: bytes, name: str = "archive/data.pkl", compress: bool = False) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def header(table: Any) -> bytes:
    text = json.dumps(table).encode()
    return len(text).to_bytes(8, "little") + text


def export(*words: str) -> Case:
    def case(folder: Path) -> None:
        put(folder, "full/thing", "x")
        put(folder, "file", "x")
        given = [word.format(here=folder, policy=MODELS / "policy") for word in words]
        convert(convert_parser().parse_args(given))

    return case


def locked(folder: Path) -> None:
    with lock.only_run(folder / "a"), lock.only_run(folder / "a"):
        pass


def truth(*lines: Any) -> Case:
    return lambda folder: claims.read_truth(put(folder, "truth.jsonl", "\n".join(map(json.dumps, lines))))


LABEL = {"question_id": 1, "claim": "a", "truth": True}
TOKEN = {"content": "<x>", "special": True}


def cases() -> dict[str, Case]:
    return {
        # ---------------------------------------------------------------- data
        "no path": lambda _: open_source(""),
        "no file": lambda folder: open_source(str(folder / "none.parquet")),
        "an empty folder": lambda folder: open_source(str(folder)),
        "no parquet": data("a.parquet", "text"),
        "an empty file": data("a.jsonl", ""),
        "no JSON": data("a.jsonl", "{"),
        "no object": data("a.jsonl", "[1]\n2"),
        "columns": data("a.jsonl", '{"a": 1}'),
        "a cell": data("a.jsonl", '{"image": null, "question": 1, "chosen": "a", "rejected": "b"}'),
        "RLHF-V": data("a.jsonl", '{"image": null, "text": "{"}'),
        "messages": data("a.jsonl", '{"prompt": [1], "chosen": [2], "rejected": [3]}'),
        "kinds": lambda folder: open_source([put(folder, "a.jsonl", "{}"), put(folder, "b.parquet", "x")]),
        "an array of numbers": data("a.json", "[1, 2]"),
        "logps": lambda folder: open_source(
            put(folder, "a.jsonl", '{"image": null, "question": "a", "chosen": "b", "rejected": "c", "logps": "x"}')
        ).reference(0),
        "no rows": lambda folder: open_source(parquet(folder, "a.parquet", chosen=[], rejected=[], question=[])),
        "hub": lambda _: open_source("no/such-data-set"),
        # ---------------------------------------------------------------- questions
        "no questions": lambda folder: Questions(parquet(folder, "q.parquet", question=pa.array([], pa.string()))),
        "question rows": lambda folder: Questions(put(folder, "q.jsonl", '{"question": "a"}'), 5, 9),
        # ---------------------------------------------------------------- tokenizers
        "no tokenizer": lambda folder: load_tokenizer(folder),
        "no directory": lambda folder: load_tokenizer(folder / "none"),
        "no SentencePiece": tokenizer(tokenizer__model="text"),
        "no JSON of a tokenizer": tokenizer(tokenizer_config__json="{"),
        "no object of a tokenizer": tokenizer(tokenizer_config__json=[1]),
        "no special token": tokenizer(special_tokens_map__json={"bos_token": 7}, tokenizer_config__json={}),
        "no added tokens": tokenizer(tokenizer_config__json={"added_tokens_decoder": 7}),
        "no id": tokenizer(tokenizer_config__json={"added_tokens_decoder": {"x": TOKEN}}),
        "no content": tokenizer(tokenizer_config__json={"added_tokens_decoder": {"9": 7}}),
        "no number": tokenizer(added_tokens__json={"<x>": "y"}, tokenizer_config__json={}),
        # ---------------------------------------------------------------- config.json
        "no model": lambda _: open_model("/nowhere"),
        "no hub id": lambda _: open_model("no/such-model"),
        "no config.json": lambda folder: open_model(with_files(folder, **{"config.json": None})),
        "no JSON of a model": lambda folder: open_model(with_files(folder, **{"config.json": "{"})),
        "no object of a model": lambda folder: open_model(with_files(folder, **{"config.json": [1]})),
        "kind of a model": model(model_type="gpt"),
        "a text": model(model_type=7),
        "no tower": model(vision_config=...),
        "a number": model(text_config__hidden_size="wide"),
        "a whole number": model(text_config__num_hidden_layers=1.5),
        "a size": model(text_config__hidden_size=10**12),
        "heads": model(text_config__num_attention_heads=7),
        "patches": model(vision_config__patch_size=7),
        "layer": model(vision_feature_layer=99),
        "activation": model(text_config__hidden_act="relu"),
        "an object": model(text_config=7),
        "rows": model(text_config__vocab_size=7),
        # ---------------------------------------------------------------- weights
        "no weights": weights(),
        "a short file": weights(**{"model.safetensors": b"x"}),
        "no header": weights(**{"model.safetensors": (3).to_bytes(8, "little") + b"abc"}),
        "a list": weights(**{"model.safetensors": header([1])}),
        "a dtype": weights(
            **{"model.safetensors": header({"a": {"dtype": "X", "shape": [1], "data_offsets": [0, 4]}})}
        ),
        "an offset": weights(
            **{"model.safetensors": header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})}
        ),
        "no offset": weights(**{"model.safetensors": header({"a": {"dtype": "F32", "shape": [1]}})}),
        "names": weights(
            **{"model.safetensors": header({"a": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}})}
        ),
        "an index": weights(**{"model.safetensors.index.json": {}}),
        "a part": weights(**{"model.safetensors.index.json": {"weight_map": {"a": "x.safetensors"}}}),
        "a part's name": weights(**{"model.safetensors.index.json": {"weight_map": {"a": "../x"}}}),
        "no zip": weights(**{"pytorch_model.bin": b"text"}),
        "no pickle": weights(**{"pytorch_model.bin": torch_zip(b"x", "other")}),
        "a broken pickle": weights(**{"pytorch_model.bin": torch_zip(b"x")}),
        "a pickled list": weights(**{"pytorch_model.bin": torch_zip(pickle.dumps([1]))}),
        "a pickled function": weights(**{"pytorch_model.bin": torch_zip(pickle.dumps(print))}),
        "adapters without a base": lambda folder: open_model(Path(put(folder, "adapter_config.json", {})).parent),
        # ---------------------------------------------------------------- convert
        "shard size": export("export", "{policy}", "{here}/out", "--layout", "llava-hf", "--shard-size", "much"),
        "into itself": export("export", "{policy}", "{policy}", "--layout", "llava-hf"),
        "into a parent": export("export", "{policy}", f"{MODELS}", "--layout", "llava-hf", "--force"),
        "shards of an adapter": export(
            "export", "{policy}", "{here}/out", "--layout", "original", "--adapter", "--shard-size", "1GB"
        ),
        "into a file": export("export", "{policy}", "{here}/file", "--layout", "llava-hf"),
        "into something": export("export", "{policy}", "{here}/full", "--layout", "llava-hf", "--force"),
        "not empty": export("export", "{policy}", "{here}/full", "--layout", "llava-hf"),
        "adapter of a model": export("export", "{policy}", "{here}/out", "--layout", "original", "--adapter"),
        # ---------------------------------------------------------------- records
        "no records": lambda folder: Input(put(folder, "a.jsonl", ""), len, 8),
        "answers in a folder": lambda folder: answer_file.is_complete(str(folder), {}),
        "answers of nobody": lambda folder: settings.compare({}, folder / "none", Path(put(folder, "a.jsonl", ""))),
        "damaged settings": lambda folder: settings.compare({}, Path(put(folder, "s", "{")), folder),
        "other settings": lambda folder: settings.compare({"a": 2}, Path(put(folder, "s", {"a": 1})), folder),
        "a lock": locked,
        "a lock on a file": lambda folder: lock.only_run(Path(put(folder, "f", ""))).__enter__(),
        "a damaged manifest": lambda folder: list(shards.read_shards(Path(put(folder, "m/manifest.json", "{")).parent)),
        # ---------------------------------------------------------------- labels
        "no label": truth({"question_id": 1}),
        "two labels": truth(LABEL, {**LABEL, "truth": False}),
        "no labels": truth(),
        # ---------------------------------------------------------------- pictures, models to talk with
        "no picture there": lambda _: open_picture("/nowhere.jpg"),
        "no picture": lambda folder: open_picture(put(folder, "a.jpg", "text")),
        "a number for a picture": lambda _: open_picture(7),
        "sixteen bits": lambda _: open_picture(Image.new("I;16", (4, 4))),
        "a zero in a name": lambda _: open_picture("a\0b"),
        "no path of a model": lambda _: Chat(7),
        "no history": lambda _: Chat(MODELS / "policy").chat(None, "what ?", history=[1]),
        "no question to answer": lambda _: Chat(MODELS / "policy").chat(None, " "),
        "no setting": lambda _: Chat(MODELS / "policy").chat(None, "what ?", heat=1),
        "more than the context": lambda _: Chat(MODELS / "policy").chat(None, "what ?", max_new_tokens=10**6),
        "cache": lambda _: Chat(MODELS / "policy").chat(None, "what ?", cache="int4"),
        "dtype": lambda _: Speaker(MODELS / "policy", dtype="int4"),
        "template": lambda _: Speaker(MODELS / "policy", template="poem"),
        "tensor": lambda _: Speaker(MODELS / "policy", tensor=7),
        "aspect ratio": lambda _: Speaker(MODELS / "policy", aspect_ratio="round"),
        "demo": lambda folder: demo(Path(put(folder, "d/summary.json", "")).parent, 0, 50, 1),
    }
