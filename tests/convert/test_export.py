"""What comes in goes out again, bit for bit; transformers opens what we write and computes the same."""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, LlavaForConditionalGeneration

from convert import __main__ as command
from convert.export import export_model
from convert.load import import_model, open_model
from convert.orbax_dir import save_params
from convert.tensors import LazyTensor, read_directory
from rlaifv_jax.models.blueprint import cast
from rlaifv_jax.parallel import make_mesh
from tests.convert.llavas import TinyLlava
from tests.parity.forward import assert_close_logits

DTYPES = ("float32", "float16", "bfloat16", "mixed")
ODD_BITS = (0x0001, 0x8001, 0x7FC1, 0x7C01, 0xFFFF, 0x8000)  # denormals, NaNs with a payload, -0


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["convert", *map(str, arguments)])
    with pytest.raises(SystemExit) as raised:
        command.main()
    assert isinstance(raised.value.code, int)
    return raised.value.code


def in_dtype(tensors: dict[str, torch.Tensor], dtype: str) -> dict[str, torch.Tensor]:
    """'mixed': the layers of a stack differ from each other, the tower from the rest."""
    if dtype != "mixed":
        return {name: tensor.to(getattr(torch, dtype)) for name, tensor in tensors.items()}
    kinds = (torch.float16, torch.bfloat16, torch.float32)
    return {
        name: tensor.to(kinds[number % 3] if "layers" in name else torch.float16)
        for number, (name, tensor) in enumerate(tensors.items())
    }


def bits(tensor: LazyTensor) -> tuple[object, ...]:
    return tensor.shape, tensor.dtype, tensor.read().tobytes()


def assert_bit_exact(one: Path, other: Path) -> None:
    before, after = read_directory(one), read_directory(other)
    assert before.keys() == after.keys()
    for name in before:
        assert bits(before[name]) == bits(after[name]), name


@pytest.mark.parametrize("layout", ["original", "llava-hf"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_import_then_export_is_bit_exact(
    layout: str,
    dtype: str,
    grouped_llava: TinyLlava,
    tokenizer_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tensors = in_dtype(grouped_llava.named(layout), dtype)
    if dtype in ("float16", "bfloat16"):
        odd = torch.tensor(ODD_BITS, dtype=torch.int32).to(torch.int16).view(getattr(torch, dtype))
        for tensor in tensors.values():
            tensor.view(-1)[: len(odd)] = odd
    declared = "float32" if dtype == "mixed" else dtype
    source = grouped_llava.write(
        tmp_path / "a", layout, "bin-shards", tensors, tokenizer_dir, torch_dtype=declared, dtype=declared
    )
    assert run(monkeypatch, "import", source, tmp_path / "b") == 0
    size = ("--shard-size", "100KB")
    assert run(monkeypatch, "export", tmp_path / "b", tmp_path / "c", "--layout", layout, *size) == 0
    assert_bit_exact(source, tmp_path / "c")
    assert len(list((tmp_path / "c").glob("model-*-of-*.safetensors"))) > 1
    assert not [*(tmp_path / "c").glob(".*"), *tmp_path.glob(".*")]
    index = json.loads((tmp_path / "c/model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in tensors.values())
    for file in (source / "config.json", *tokenizer_dir.iterdir()):
        assert (tmp_path / "c" / file.name).read_bytes() == (source / file.name).read_bytes()


@pytest.mark.parametrize("first", ["original", "llava-hf"])
def test_there_and_back(first: str, tiny_llava: TinyLlava, tmp_path: Path) -> None:
    second = "llava-hf" if first == "original" else "original"
    source = tiny_llava.write(tmp_path / "a", first)
    export_model(open_model(source), tmp_path / "b", second)
    export_model(open_model(tmp_path / "b"), tmp_path / "c", first)
    before, after = read_directory(source), read_directory(tmp_path / "c")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        rows = tiny_llava.config.image_token_index if first == "llava-hf" else tensor.shape[0]
        if tensor.shape[0] != 99:
            assert bits(tensor) == bits(after[name]), name
        else:  # the vocabulary: every row that the tokenizer knows
            np.testing.assert_array_equal(tensor.read()[:rows], after[name].read()[:rows])
            assert after[name].shape[0] == (99 if first == "original" else 128)


@pytest.mark.parametrize("theta", [500.0, 1e6])
def test_transformers_opens_the_export(theta: float, tmp_path: Path) -> None:
    model = TinyLlava(kv_heads=2, theta=theta, seed=1)
    import_model(open_model(model.write(tmp_path / "a", "original", "bin")), tmp_path / "b")
    export_model(open_model(tmp_path / "b"), tmp_path / "c", "llava-hf")
    hf, info = LlavaForConditionalGeneration.from_pretrained(
        tmp_path / "c", output_loading_info=True, attn_implementation="eager"
    )
    assert not any(info.values()), info
    assert hf.config.image_token_id == 99
    embedding = hf.get_input_embeddings().weight
    assert embedding.shape == (128, 48)
    torch.testing.assert_close(embedding[-1], embedding[:99].mean(0))
    ours = open_model(tmp_path / "b")
    params = cast(ours.load(make_mesh(1, 1, 1, jax.devices()[:1])), jnp.float32)
    assert_close_logits(hf.eval(), ours.blueprint, params, image_token=99, vocab=99)


def test_other_dtypes_and_the_separate_tower(
    tiny_llava: TinyLlava, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tower = tiny_llava.torch.model.vision_tower
    tower.config.architectures = ["CLIPVisionModel"]
    tower.save_pretrained(tmp_path / "clip")
    own = {name: t for name, t in tiny_llava.named("original").items() if "vision_tower" not in name}
    source = tiny_llava.write(tmp_path / "a", tensors=own, vision_config=None)
    clip = ("--vision-path", tmp_path / "clip")
    assert run(monkeypatch, "import", source, tmp_path / "b", *clip) == 0
    assert run(monkeypatch, "export", tmp_path / "b", tmp_path / "c", "--layout", "original") == 0
    assert_bit_exact(source, tmp_path / "c")
    # A model saved by training carries its tower, and says its sizes.
    checkpoint = open_model(tmp_path / "b")
    checkpoint.save_assets(tmp_path / "trained")
    save_params(tmp_path / "trained", cast(checkpoint.load(make_mesh(1, 1, 1, jax.devices()[:1])), jnp.bfloat16))
    assert run(monkeypatch, "export", tmp_path / "trained", tmp_path / "e", "--layout", "original") == 0
    assert len(read_directory(tmp_path / "e")) == 80
    assert open_model(tmp_path / "e").config == checkpoint.config
    assert json.loads((tmp_path / "e/config.json").read_text())["torch_dtype"] == "bfloat16"
    options = ("--layout", "original", "--with-tower", "--dtype", "bfloat16")
    assert run(monkeypatch, "export", tmp_path / "b", tmp_path / "d", *options) == 0
    tensors = read_directory(tmp_path / "d")
    assert len(tensors) == 80
    assert {tensor.dtype.name for tensor in tensors.values()} == {"bfloat16"}
    assert json.loads((tmp_path / "d/config.json").read_text())["torch_dtype"] == "bfloat16"
    assert open_model(tmp_path / "d").notes.tower == "inside"


PROMPTS = (
    "USER: <image>\nWhat is this? ASSISTANT:",
    "<image>\n\nWhat",
    "a red circle",
    " a leading blank",
    "  two",
    "\nnewline",
    "USER: <image> blank behind ASSISTANT: A, 1234.",
    "  <image>  ",
    "Ünïcödé 图 \t tab",
    "",
)


def test_tokenizer_of_the_export(tokenizer_dir: Path, tmp_path: Path) -> None:
    import sentencepiece

    model = TinyLlava(kv_heads=4, vocab=642)  # two rows more than the tokenizer has pieces
    source = model.write(tmp_path / "a", "original", tokenizer=tokenizer_dir)
    export_model(open_model(source), tmp_path / "b", "llava-hf")
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer_dir / "tokenizer.model"))
    fast = AutoTokenizer.from_pretrained(tmp_path / "b")
    assert (fast.convert_tokens_to_ids("<image>"), fast.pad_token_id, len(fast)) == (642, 643, 644)
    for prompt in PROMPTS:
        chunks = [pieces.encode(chunk) for chunk in prompt.split("<image>")]  # as LLaVA does
        ids = [1, *chunks[0], *(number for chunk in chunks[1:] for number in [642, *chunk])]
        assert fast(prompt).input_ids == ids, prompt
    assert fast.decode(fast("a red circle").input_ids, skip_special_tokens=True) == "a red circle"
    export_model(open_model(tmp_path / "b"), tmp_path / "c", "original")
    assert open_model(tmp_path / "c").config.decoder.vocab_size == 642
    assert (tmp_path / "c/tokenizer.model").read_bytes() == (tokenizer_dir / "tokenizer.model").read_bytes()


def test_processor_of_the_export(tokenizer_dir: Path, tmp_path: Path) -> None:
    from PIL import Image
    from transformers import AutoProcessor

    from rlaifv_jax.data.templates import LLAVA_V1, VICUNA_V1, Turn

    source = TinyLlava(kv_heads=4, vocab=640).write(tmp_path / "a", "original", tokenizer=tokenizer_dir)
    for template in (LLAVA_V1, VICUNA_V1):
        export_model(open_model(source), tmp_path / template.name, "llava-hf", template=template.name)
        processor = AutoProcessor.from_pretrained(tmp_path / template.name)
        content = [{"type": "image"}, {"type": "text", "text": "What is this?"}]
        turns = [Turn("user", "What is this?"), Turn("assistant", "A dog."), Turn("user", "Where?")]
        messages = [{"role": "user", "content": content}]
        messages += [{"role": turn.role, "content": [{"type": "text", "text": turn.text}]} for turn in turns[1:]]
        text = processor.apply_chat_template(messages, add_generation_prompt=True)
        assert text == template.render_prompt(turns, image=True)
    row = processor(images=Image.new("RGB", (40, 30)), text=text, return_tensors="pt")
    assert row["pixel_values"].shape == (1, 3, 28, 28)
    assert int((row["input_ids"] == 640).sum()) == 4
