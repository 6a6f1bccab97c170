"""LLaVA-NeXT's files: what is read, what goes back bit for bit, what the other side makes of it."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, AutoTokenizer, LlavaNextForConditionalGeneration, LlavaNextProcessor

from convert.export import export_model
from convert.inspect import describe
from convert.layouts import LAYOUTS
from convert.load import import_model, open_model
from convert.tables import TABLES
from convert.tensors import read_directory
from rlaifv_jax import published
from rlaifv_jax.data.batch import IMAGE_TOKEN
from rlaifv_jax.data.chatml_template import CHATML_DIRECT
from rlaifv_jax.data.templates import VICUNA_V1, Template, Turn
from rlaifv_jax.data.tokenizer import load_tokenizer
from rlaifv_jax.errors import UserError
from rlaifv_jax.models.blueprint import blueprint, flat
from rlaifv_jax.models.families import LLAVA, LLAVA_NEXT, Trained, family_of
from rlaifv_jax.parallel import make_mesh
from tests.convert.llava_nexts import CANVASES, TinyLlavaNext
from tests.convert.llavas import TinyLlava
from tests.convert.test_export import PROMPTS, assert_bit_exact, bits, in_dtype, run
from tests.data.chatml_tokenizer import write_tokenizer


@pytest.fixture(scope="module")
def tiny() -> TinyLlavaNext:
    return TinyLlavaNext()


@pytest.fixture(scope="module")
def yi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """640 pieces, ChatML's marks among them."""
    return write_tokenizer(tmp_path_factory.mktemp("yi"))


def leaves(folder: Path) -> dict[str, np.ndarray]:
    loaded = open_model(folder).load(make_mesh(1, 1, 1, jax.devices()[:1]))
    return {path: np.asarray(leaf) for path, leaf in flat(loaded).items()}


# ------------------------------------------------------------------------------- in


def test_all_layouts(tiny: TinyLlavaNext, tmp_path: Path) -> None:
    truth: dict[str, np.ndarray] = {}
    for layout in LAYOUTS["llava_next"]:
        folder = tiny.write(tmp_path / layout.name, layout.name)
        found = open_model(folder)
        assert (found.family, found.source_layout) == (LLAVA_NEXT, layout.name)
        assert found.config.canvases == CANVASES
        assert found.config.decoder.rope_theta == 5e6
        ours = leaves(folder)
        truth = truth or ours
        assert ours.keys() == truth.keys()
        for path in ours:
            np.testing.assert_array_equal(ours[path], truth[path], err_msg=path)
    np.testing.assert_array_equal(truth["projector/newline"], tiny.tensors["model.image_newline"])
    assert sum(leaf.size for leaf in truth.values()) == sum(tensor.numel() for tensor in tiny.tensors.values())
    assert "family:         llava_next" in describe(folder)


def test_the_newline_is_part_of_the_projector() -> None:
    assert not any("projector" in path for path in LLAVA_NEXT.untrained(Trained()))
    assert "projector" in LLAVA_NEXT.untrained(Trained(projector=False))


def test_llava_of_the_first_kind_stays_what_it_is() -> None:
    raw = published.MODELS["liuhaotian/llava-v1.5-7b"]
    for more in ({}, {"mm_patch_merge_type": "flat", "image_aspect_ratio": "pad"}, {"image_aspect_ratio": "square"}):
        assert family_of(raw | more, "c") is LLAVA
    assert family_of({"model_type": "llava", "mm_patch_merge_type": None}, "c") is LLAVA


@pytest.mark.parametrize(
    ("layout", "changes", "message"),
    [
        ("original", {"mm_patch_merge_type": "spatial"}, "mm_patch_merge_type is 'spatial', which is not supported"),
        ("original", {"mm_patch_merge_type": "flat"}, "mm_patch_merge_type is 'flat'"),
        ("original", {"image_aspect_ratio": "anyres_max_9"}, "image_aspect_ratio is 'anyres_max_9'"),
        ("original", {"image_aspect_ratio": "pad"}, "image_aspect_ratio is 'pad'"),
        ("original", {"model_type": "llava_mistral"}, "Mistral's conversation template is not among those"),
        ("original", {"image_grid_pinpoints": [[56, 100]]}, "image_grid_pinpoints is .*pairs of multiples of 56"),
        ("original", {"image_grid_pinpoints": [[56000, 56000]]}, "with at most 178956970 pixels"),
        ("original", {"image_grid_pinpoints": "(1x1),...,(6x6)"}, "image_grid_pinpoints is '.1x1.*pairs of multiples"),
        ("original", {"image_grid_pinpoints": []}, "image_grid_pinpoints is "),
        ("original", {"image_grid_pinpoints": {"a": 1}}, "image_grid_pinpoints is "),
        ("llava-hf", {"image_grid_pinpoints": [[56]]}, "image_grid_pinpoints is "),
        ("llava-hf", {"text_config": {"model_type": "mistral"}}, "text_config.model_type is 'mistral'"),
        ("llava-hf", {"vision_feature_select_strategy": "full"}, "vision_feature_select_strategy is 'full'"),
    ],
)
def test_what_is_refused(
    tiny: TinyLlavaNext, tmp_path: Path, layout: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        open_model(tiny.write(tmp_path, layout, **changes))


def test_canvases_as_a_text(tiny: TinyLlavaNext, tmp_path: Path) -> None:
    """As the original's training command writes them."""
    found = open_model(tiny.write(tmp_path, image_grid_pinpoints="[(56, 112), (112, 56), (112, 112), (168, 56)]"))
    assert found.config.canvases == CANVASES


def test_a_tower_beside_the_checkpoint(tiny: TinyLlavaNext, tmp_path: Path) -> None:
    """What is inside goes first; where nothing is, the path is used."""
    tower = tiny.torch.model.vision_tower
    tower.config.architectures = ["CLIPVisionModel"]
    tower.save_pretrained(tmp_path / "clip")
    own = {name: tensor for name, tensor in tiny.named("original").items() if "vision_tower" not in name}
    inside = tiny.write(tmp_path / "inside")
    apart = tiny.write(tmp_path / "apart", tensors=own, vision_config=None)
    assert open_model(inside, tmp_path / "nowhere").notes.tower == "inside"
    assert open_model(apart, tmp_path / "clip").config == open_model(inside).config
    assert open_model(apart, tmp_path / "clip").notes.tower == "separate"


# ------------------------------------------------------------------------------- out


@pytest.mark.parametrize("layout", ["original", "llava-hf"])
@pytest.mark.parametrize("dtype", ["float16", "mixed"])
def test_import_then_export_is_bit_exact(
    layout: str, dtype: str, tiny: TinyLlavaNext, yi: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = in_dtype(tiny.named(layout), dtype)
    declared = {} if dtype == "mixed" else {"torch_dtype": dtype, "dtype": dtype}
    source = tiny.write(tmp_path / "a", layout, "bin-shards", tensors, yi, **declared)
    assert run(monkeypatch, "import", source, tmp_path / "b") == 0
    assert run(monkeypatch, "export", tmp_path / "b", tmp_path / "c", "--layout", layout) == 0
    assert_bit_exact(source, tmp_path / "c")
    for file in (*([source / "config.json"] if declared else []), *yi.iterdir()):
        assert (tmp_path / "c" / file.name).read_bytes() == (source / file.name).read_bytes()


@pytest.mark.parametrize("first", ["original", "llava-hf"])
def test_there_and_back(first: str, tiny: TinyLlavaNext, tmp_path: Path) -> None:
    second = "llava-hf" if first == "original" else "original"
    source = tiny.write(tmp_path / "a", first)
    export_model(open_model(source), tmp_path / "b", second)
    export_model(open_model(tmp_path / "b"), tmp_path / "c", first)
    assert open_model(tmp_path / "b").config.canvases == CANVASES
    before, after = read_directory(source), read_directory(tmp_path / "c")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        if tensor.shape[0] != 99:  # not of the vocabulary
            assert bits(tensor) == bits(after[name]), name
        else:
            rows = 99 if first == "original" else tiny.config.image_token_index
            np.testing.assert_array_equal(tensor.read()[:rows], after[name].read()[:rows])


def test_transformers_opens_the_export(tiny: TinyLlavaNext, tmp_path: Path) -> None:
    import_model(open_model(tiny.write(tmp_path / "a")), tmp_path / "b")
    export_model(open_model(tmp_path / "b"), tmp_path / "c", "llava-hf")
    hf, info = LlavaNextForConditionalGeneration.from_pretrained(tmp_path / "c", output_loading_info=True)
    assert not any(info.values()), info
    assert hf.config.image_grid_pinpoints == [[height, width] for width, height in CANVASES]
    assert (hf.config.image_token_id, hf.config.text_config.vocab_size) == (99, 128)
    for name, tensor in hf.state_dict().items():
        ours = tiny.tensors[name]
        assert torch.equal(tensor[: len(ours)], ours), name


def test_vocabulary_of_34b() -> None:
    """64000 rows become 64064, of which the first new ones are `<image>` and `<pad>`."""
    from types import SimpleNamespace

    from convert.export import target_rows

    decoder = SimpleNamespace(vocab_size=64000)
    source: Any = SimpleNamespace(
        config=SimpleNamespace(decoder=decoder), family=LLAVA_NEXT, source_layout="original", raw_config={}
    )
    assert target_rows(source, "llava-hf") == 64064
    decoder.vocab_size, source.source_layout, source.directory = 64064, "llava-hf", Path("/nowhere")
    source.raw_config = {"image_token_index": 64000}
    assert target_rows(source, "original") == 64000


# ------------------------------------------------------------------------------- tokenizer and processor


def plain(folder: Path, text: str) -> list[int]:
    """Ids by SentencePiece alone, `<image>` cut out as 640."""
    import sentencepiece

    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    chunks = [pieces.encode(chunk) for chunk in text.split("<image>")]
    return [*chunks[0], *(token for chunk in chunks[1:] for token in [640, *chunk])]


@pytest.mark.parametrize("form", ["tokenizer.model", "tokenizer.json"])
def test_tokenizer_of_34b(form: str, yi: Path, tmp_path: Path) -> None:
    """Both files of it travel; the other side gives the ids of SentencePiece, and the way back is the beginning."""
    model = TinyLlavaNext(vocab=642)  # two rows more than the tokenizer has pieces
    source = model.write(tmp_path / "a", tokenizer=yi)
    if form == "tokenizer.json":  # made from the other, for want of a second tokenizer
        export_model(open_model(source), tmp_path / "made", "llava-hf")
        (tmp_path / "made" / "tokenizer.model").unlink()
        export_model(open_model(tmp_path / "made"), tmp_path / "fast", "original")
        source = tmp_path / "fast"
        assert not (source / "tokenizer.model").exists()
    asked = CHATML_DIRECT.render_prompt([Turn("user", "What is this?")], image=True)
    ours = load_tokenizer(source)
    export_model(open_model(source), tmp_path / "b", "llava-hf")
    fast = AutoTokenizer.from_pretrained(tmp_path / "b")
    assert (fast.convert_tokens_to_ids("<image>"), fast.pad_token_id, len(fast)) == (642, 643, 644)
    assert (fast.eos_token, fast.bos_token) == ("<|im_end|>", "<|startoftext|>")
    for prompt in (*PROMPTS, asked):
        expected = [642 if token == 640 else token for token in plain(yi, prompt)]
        assert fast(prompt).input_ids == expected, prompt
        assert CHATML_DIRECT.tokenize(ours, prompt) == [IMAGE_TOKEN if t == 642 else t for t in expected]
    settings = json.loads((tmp_path / "b/config.json").read_text())
    assert settings["text_config"]["eos_token_id"] == ours.eos_id == 4
    export_model(open_model(tmp_path / "b"), tmp_path / "c", "original")
    back = load_tokenizer(tmp_path / "c")
    assert (tmp_path / "c" / form).exists()
    assert open_model(tmp_path / "c").config.decoder.vocab_size == 642
    assert back.eos_id == ours.eos_id
    assert back.bos_id is None
    assert CHATML_DIRECT.tokenize(back, asked) == CHATML_DIRECT.tokenize(ours, asked)


@pytest.mark.parametrize("template", [CHATML_DIRECT, VICUNA_V1], ids=lambda template: template.name)
def test_processor_of_the_export(template: Template, yi: Path, tokenizer_dir: Path, tmp_path: Path) -> None:
    """The template is the checkpoint's own, and transformers puts as many tokens for a picture as we have positions."""
    tokenizer = yi if template is CHATML_DIRECT else tokenizer_dir
    source = TinyLlavaNext(vocab=640).write(tmp_path / "a", tokenizer=tokenizer)
    export_model(open_model(source), tmp_path / "b", "llava-hf")
    processor = AutoProcessor.from_pretrained(tmp_path / "b")
    assert isinstance(processor, LlavaNextProcessor)
    content = [{"type": "image"}, {"type": "text", "text": "What is this?"}]
    turns = [Turn("user", "What is this?"), Turn("assistant", "A dog."), Turn("user", "Where?")]
    messages = [{"role": "user", "content": content}]
    messages += [{"role": turn.role, "content": [{"type": "text", "text": turn.text}]} for turn in turns[1:]]
    text = processor.apply_chat_template(messages, add_generation_prompt=True)
    assert text == template.render_prompt(turns, image=True)
    ours = open_model(tmp_path / "b").config.processor("anyres")
    for size in ((100, 40), (40, 100), (112, 112), (300, 60), (31, 33)):
        row = processor(images=Image.new("RGB", size), text=text, return_tensors="pt")
        placement = ours.placement(size)
        assert row["pixel_values"].shape == (1, placement.tiles, 3, 56, 56)
        assert int((row["input_ids"] == 640).sum()) == placement.positions


# ------------------------------------------------------------------------------- published


def test_published_sizes() -> None:
    known = published.sizes_of("liuhaotian/llava-v1.6-34b")
    assert known is not None
    family, config = known
    assert (family, config.decoder.kv_heads, config.decoder.vocab_size) == (LLAVA_NEXT, 8, 64000)
    shapes = flat(blueprint(family.module, config).shapes)
    sizes = {path: int(np.prod(leaf.shape)) for path, leaf in shapes.items()}
    assert sum(sizes.values()) == 34_751_166_464
    assert sum(size for path, size in sizes.items() if path.startswith("projector/")) == 58_734_592 + 7168
    assert len(TABLES["llava_next"](config)) == 543 + 391 + 4 + 1
    for name, width in (("7b", 4096), ("13b", 5120)):
        found = published.sizes_of(f"liuhaotian/llava-v1.6-vicuna-{name}")
        assert found is not None
        assert (found[0], found[1].decoder.width, found[1].decoder.rope_theta) == (LLAVA_NEXT, width, 1e4)
        assert found[1].canvases == ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))


def test_a_first_llava_exports_as_before(tokenizer_dir: Path, tmp_path: Path) -> None:
    """None of the tiles' settings leak into its files."""
    source = TinyLlava(kv_heads=4, vocab=640).write(tmp_path / "a", tokenizer=tokenizer_dir)
    for layout in ("llava-hf", "original"):
        export_model(open_model(source), tmp_path / layout, layout)
        for file in ("config.json", "preprocessor_config.json"):
            text = (tmp_path / layout / file).read_text()
            assert "pinpoints" not in text
            assert "anyres" not in text
        source = tmp_path / layout
