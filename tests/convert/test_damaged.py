"""Files that are damaged, or say what cannot be: one line with the place, before anything is computed or written."""

import json
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
import pytest
import tensorstore
import torch

from convert.inspect import describe
from convert.load import import_model, open_model
from convert.orbax_dir import save_params
from rlaifv_jax.errors import UserError
from rlaifv_jax.parallel import make_mesh
from tests.convert.llavas import TinyLlava
from tests.convert.omnilmms import TinyOmniLmm

NAME = "model.mm_projector.0.weight"


def refused(folder: Path, vision_path: Path | None = None) -> str:
    """What `open_model` says; it must be short and say where."""
    with pytest.raises(UserError) as raised:
        open_model(folder, vision_path)
    message = str(raised.value)
    assert str(folder.parent) in message
    assert len(message) < 600
    return message


# ---------------------------------------------------------------- config.json


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *((key, value) for key in ("model_type", "mm_vision_tower") for value in ([], ["a"], {"a": 1}, 5)),
        *(("vision_config", value) for value in ("x", [], [1], 0, 1.5, True, math.nan)),
        *(
            (key, v)
            for key in ("hidden_size", "num_hidden_layers")
            for v in (math.nan, math.inf, 1e30, 10**30, 10**400)
        ),
        *((key, v) for key in ("rope_theta", "rms_norm_eps") for v in (math.nan, math.inf, -math.inf, 10**400, 0)),
    ],
)
def test_values_of_config_json(key: str, value: object, tiny_llava: TinyLlava, tmp_path: Path) -> None:
    assert f"config.json: {key} is " in refused(tiny_llava.write(tmp_path, **{key: value}))


@pytest.mark.parametrize("value", ["x", [1], 7, math.inf])
def test_values_of_the_towers_config(value: object, tiny_llava: TinyLlava, tmp_path: Path) -> None:
    tower = tiny_llava.json("original")["vision_config"]
    bent = tower | {"layer_norm_eps": value if isinstance(value, float) else math.nan}
    assert "vision_config.layer_norm_eps is" in refused(tiny_llava.write(tmp_path / "a", vision_config=bent))
    assert "vision_config is" in refused(tiny_llava.write(tmp_path / "b", "llava-hf", vision_config=value))
    assert "vision_config is" in refused(TinyOmniLmm().write(tmp_path / "c", vision_config=value))


@pytest.mark.parametrize("layers", [4, 40, 1000, 1_000_000, 2**31 - 1])
@pytest.mark.parametrize("part", ["language model", "image tower"])
def test_layers_that_are_missing_are_counted(part: str, layers: int, tiny_llava: TinyLlava, tmp_path: Path) -> None:
    there, changes = 2, {"num_hidden_layers": layers}
    if part == "image tower":
        there, changes = 3, {"vision_config": tiny_llava.json("original")["vision_config"] | changes}
    message = refused(tiny_llava.write(tmp_path, **changes))
    assert f"num_hidden_layers={layers} of the {part}, the tensors are those of {there} layers" in message
    assert f"so {layers - there} are missing" in message


def test_layers_of_a_separate_tower(tiny_llava: TinyLlava, tmp_path: Path) -> None:
    from transformers import CLIPVisionModel

    CLIPVisionModel(tiny_llava.config.vision_config).save_pretrained(tmp_path / "clip")
    names = tiny_llava.named("original")
    own = {name: tensor for name, tensor in names.items() if "vision_tower" not in name}
    folder = tiny_llava.write(tmp_path / "a", tensors=own, vision_config=None)
    file = tmp_path / "clip/config.json"
    raw = json.loads(file.read_text())
    file.write_text(json.dumps(raw | {"num_hidden_layers": 1_000_000}))
    assert f"{tmp_path}/clip: config.json says num_hidden_layers=1000000" in refused(folder, tmp_path / "clip")
    file.write_text(json.dumps({"vision_config": "x"}))
    assert f"{file}: vision_config is 'x'" in refused(folder, tmp_path / "clip")


@pytest.mark.parametrize("key", ["image_mean", "image_std"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -0.5, True, "0.5", 123.7, 10**400])
def test_image_statistics(key: str, value: object, tiny_llava: TinyLlava, tmp_path: Path) -> None:
    folder = tiny_llava.write(tmp_path)
    values = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3} | {key: [0.5, value, 0.5]}
    (folder / "preprocessor_config.json").write_text(json.dumps(values))
    assert f"preprocessor_config.json: {key} is " in refused(folder)


# ---------------------------------------------------------------- safetensors


@pytest.fixture
def model(tiny_llava: TinyLlava, tmp_path: Path) -> Path:
    return tiny_llava.write(tmp_path / "model")


def rewrite(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    """Edit the header of model.safetensors; the data stays where it is."""
    file = folder / "model.safetensors"
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    text = json.dumps(edit(header) or header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


@pytest.mark.parametrize(
    "bent",
    [
        *(5, [], "x", {}),
        *({key: None} for key in ("dtype", "shape", "data_offsets")),
        *({"data_offsets": value} for value in ([0], [0, "x"], [0, 1, 2])),
        *({"shape": value} for value in ("x", [-32, -48], [48.0, 32])),
        {"dtype": ["F32"]},
    ],
)
def test_entries_of_a_header(bent: Any, model: Path) -> None:
    def edit(header: dict[str, Any]) -> None:
        header[NAME] = header[NAME] | bent if isinstance(bent, dict) and bent else bent

    rewrite(model, edit)
    assert f"model.safetensors is damaged: its header does not say where {NAME} is" in refused(model)


def test_a_header_that_is_a_list(model: Path) -> None:
    rewrite(model, lambda header: [1])
    assert "model.safetensors: not a safetensors file" in refused(model)


def test_a_directory_in_place_of_the_file(model: Path) -> None:
    (model / "model.safetensors").unlink()
    (model / "model.safetensors").mkdir()
    assert "no weights; one of the files" in refused(model)


@pytest.mark.parametrize("file", [5, None, [], "", ".", "..", "/etc/passwd", "../model/model.safetensors", "a/b"])
def test_files_that_an_index_names(file: object, model: Path) -> None:
    names = json.dumps({"weight_map": {NAME: file}})
    (model / "model.safetensors.index.json").write_text(names)
    assert f"where {NAME} shall be, is no name of a file beside it" in refused(model)


@pytest.mark.parametrize("content", ['{"weight_map": {}}', '{"weight_map": [1]}', "{}", "[]", "[" * 100_000])
def test_what_is_no_index(content: str, model: Path) -> None:
    (model / "model.safetensors.index.json").write_text(content)
    assert "model.safetensors.index.json: " in refused(model)


@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_integers_are_refused_but_for_those_left_out(form: str, tiny_llava: TinyLlava, tmp_path: Path) -> None:
    names = tiny_llava.named("original")
    places = {"model.vision_tower.vision_tower.vision_model.embeddings.position_ids": torch.arange(5)[None]}
    assert open_model(tiny_llava.write(tmp_path / "a", form=form, tensors=names | places)).leaves
    folder = tiny_llava.write(tmp_path / "b", form=form, tensors=names | {NAME: names[NAME].int()})
    assert f"{NAME} is int32; supported are float32" in refused(folder)


def test_a_file_that_shrinks_after_it_was_opened(model: Path, tmp_path: Path) -> None:
    opened = open_model(model)
    (model / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"model\.safetensors: cut short or gone since it was opened"):
        import_model(opened, tmp_path / "b")


# ---------------------------------------------------------------- params/


@pytest.fixture(params=["imported", "trained"])
def orbax(request: pytest.FixtureRequest, model: Path, tmp_path: Path) -> Path:
    """As `convert import` writes it, and as training does."""
    source = open_model(model)
    if request.param == "imported":
        import_model(source, tmp_path / "ours")
    else:
        source.save_assets(tmp_path / "ours")
        save_params(tmp_path / "ours", source.load(make_mesh(1, 1, 1, jax.devices()[:1])))
    assert "complete:       yes" in describe(tmp_path / "ours")
    return tmp_path / "ours"


def data_files(folder: Path) -> list[Path]:
    """Those that hold values, the largest first."""
    params = f"{folder}/params/"
    base = tensorstore.KvStore.open({"driver": "file", "path": params}).result()
    root = tensorstore.ocdbt.dump(base).result()["versions"][-1]["root"]["location"]
    entries = tensorstore.ocdbt.dump(base, root).result()["entries"]
    kinds = (entry["indirect_value"].split(":") for entry in entries if "indirect_value" in entry)
    files = {Path(params, base, name) for _, base, name, *_ in kinds}
    return sorted(files, key=lambda file: file.stat().st_size, reverse=True)


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_data_files_of_orbax(orbax: Path, damage: str, tmp_path: Path) -> None:
    file = data_files(orbax)[0]
    opened = open_model(orbax)
    file.write_bytes(file.read_bytes()[:100]) if damage == "cut" else file.unlink()
    with pytest.raises(UserError, match=r"ours/params: \w+/\S+ is damaged or incomplete \("):
        opened.load(make_mesh(1, 1, 1, jax.devices()[:1]))
    assert f"{orbax}/params: " in refused(orbax)
    with pytest.raises(UserError, match="copy or write it again"):
        describe(orbax)
    (orbax / "params/manifest.ocdbt").write_bytes(b"")
    assert f"{orbax}/params: " in refused(orbax)


def test_chunks_in_files_of_their_own(model: Path, tmp_path: Path) -> None:
    """Zarr takes a chunk that is not there for zeros."""
    source, ours = open_model(model), tmp_path / "ours"
    source.save_assets(ours)
    params = source.load(make_mesh(1, 1, 1, jax.devices()[:1]))
    ocp.PyTreeCheckpointer(use_ocdbt=False).save(ours / "params", params)
    assert open_model(ours).leaves.keys() == source.leaves.keys()
    (ours / "params/decoder.head.kernel/0.0").unlink()
    assert "params: decoder/head/kernel lacks 1 of its 1 chunks" in refused(ours)


@pytest.mark.parametrize(
    "changes",
    [{"tower": "x"}, {"tower": []}, {"tensor_dtypes": None}, {"tensor_dtypes": {"a": "float32"}}]
    + [{"tensor_dtypes": {"decoder/layers/mlp/up/kernel": names}} for names in (["int8", "int8"], ["float32"])],
)
def test_notes(changes: dict[str, object], model: Path, tmp_path: Path) -> None:
    import_model(open_model(model), tmp_path / "ours")
    file = tmp_path / "ours/rlaifv.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    assert "rlaifv.json" in refused(tmp_path / "ours")
