"""A language model without a tower against transformers: logits, generation, chat template, round trip."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from convert.export import export_model
from convert.inspect import describe
from convert.load import import_model, open_model
from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.data.templates import Turn
from rlaifv_jax.errors import UserError
from rlaifv_jax.models.layers import PLAIN
from rlaifv_jax.parallel import make_mesh
from rlaifv_jax.sampling.load import Speaker
from rlaifv_jax.sampling.settings import Sampling
from tests.convert.llamas import END, TURN_END, TinyLlama
from tests.sampling.talker import cut_at_end, pictures

QUESTIONS = ("Hello?", "Split: a dog sits on a red car.", "é 漢", "one\ntwo  three")


@pytest.fixture(scope="module")
def llama() -> TinyLlama:
    return TinyLlama()


@pytest.fixture(scope="module")
def folder(llama: TinyLlama, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return llama.write(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def speaker(folder: Path) -> Speaker:
    return Speaker(folder, dtype="float32")


def test_logits(llama: TinyLlama, speaker: Speaker) -> None:
    from rlaifv_jax.data.rows import Item, RowShape, build_rows

    prompts = [speaker.prompter.prompt(question, None, question) for question in QUESTIONS]
    params = speaker.model.load(make_mesh(1, 1, 1, jax.devices()[:1]), lambda path: jnp.float32)
    model = speaker.model.blueprint.module(params)
    batch = build_rows(
        [[Item(prompt.encoded)] for prompt in prompts], RowShape(128, 0, speaker.model.config.tile, images=0)
    )
    ours = model.decoder.logits(model.hidden(batch, PLAIN))
    for row, prompt in enumerate(prompts):
        with torch.inference_mode():
            theirs = llama.torch(input_ids=torch.tensor([prompt.encoded.prefix.tolist()])).logits[0]
        np.testing.assert_allclose(ours[row, : prompt.positions], theirs, atol=1e-4)


def test_prompts_are_in_the_model_s_own_template(folder: Path, speaker: Speaker) -> None:
    theirs = AutoTokenizer.from_pretrained(folder)
    for turns in ([Turn("user", "Hi?")], [Turn("user", "Hi?"), Turn("assistant", "Yes."), Turn("user", "So?")]):
        ours = speaker.prompter.encode(turns, None).prefix.tolist()
        messages = [{"role": turn.role, "content": turn.text} for turn in turns]
        assert ours == theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert speaker.prompter.template.name == "the tokenizer's own"
    assert set(speaker.ends) == {END, TURN_END}


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}])
def test_generation_is_token_for_token(llama: TinyLlama, speaker: Speaker, options: dict[str, int]) -> None:
    prompts = [speaker.prompter.prompt(question, None, question, question) for question in QUESTIONS]
    engine = speaker.engine(Sampling(max_new_tokens=40, **options))
    ours = {found.tag: list(found.answers[0].tokens) for found in engine.generate(prompts)}
    for prompt in prompts:
        ids = torch.tensor([prompt.encoded.prefix.tolist()])
        with torch.inference_mode():
            found = llama.torch.generate(
                ids, max_new_tokens=40, do_sample=False, eos_token_id=[END, TURN_END], pad_token_id=END, **options
            )
        assert ours[prompt.tag] == cut_at_end(found[0, ids.shape[1] :].tolist(), [END, TURN_END])


def test_it_takes_no_pictures(speaker: Speaker) -> None:
    with pytest.raises(BadRow, match="image_for_text_model"):
        speaker.prompter.prompt("What is it?", pictures(1)[0], "x")


def test_without_a_chat_template(llama: TinyLlama, tmp_path: Path) -> None:
    bare = llama.write(tmp_path / "bare", chat=None)
    with pytest.raises(UserError, match="holds no chat template; name the conversation template"):
        Speaker(bare)
    named = Speaker(bare, template="vicuna_v1")
    text = named.tokenizer.decode(named.prompter.encode([Turn("user", "Hi?")], None).prefix)
    assert text.endswith("USER: Hi? ASSISTANT:")


def test_round_trip(llama: TinyLlama, folder: Path, tmp_path: Path) -> None:
    import_model(open_model(folder), tmp_path / "ours")
    ours = open_model(tmp_path / "ours")
    assert ours.family.name == "llama"
    for layout in ("original", "llava-hf"):
        export_model(ours, tmp_path / layout, layout)
        back = LlamaForCausalLM.from_pretrained(tmp_path / layout)
        for name, tensor in llama.torch.state_dict().items():
            assert torch.equal(back.state_dict()[name], tensor), name
    assert AutoTokenizer.from_pretrained(tmp_path / "original").chat_template
    said = describe(tmp_path / "ours")
    assert "language model:" in said
    assert "tower" not in said


def test_settings_that_are_not_computed(llama: TinyLlama, tmp_path: Path) -> None:
    scaled = {"rope_parameters": {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0}}
    with pytest.raises(UserError, match="rope_type"):
        open_model(llama.write(tmp_path / "scaled", **scaled))
