"""The two templates, against the texts that were seen in the original."""

import pytest

from rlaifv_jax.data.conversation import NAMED, get_conversation
from rlaifv_jax.data.templates import TEMPLATES, Turn
from rlaifv_jax.errors import UserError

SYSTEM = (
    "A chat between a curious {0} and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the {0}'s questions."
)


@pytest.mark.parametrize(("name", "who"), [("llava_v1", "human"), ("vicuna_v1", "user")])
def test_one_turn(name, who):
    turns = (Turn("user", "What is this?"),)
    head = SYSTEM.format(who) + " USER: "
    assert TEMPLATES[name].render(turns, "A dog.", image=True) == (
        head + "<image>\nWhat is this? ASSISTANT: A dog.</s>"
    )
    assert TEMPLATES[name].render_prompt(turns, image=True) == head + "<image>\nWhat is this? ASSISTANT:"
    assert TEMPLATES[name].render_prompt(turns, image=False) == head + "What is this? ASSISTANT:"


def test_turns_follow_the_end_token_without_a_blank():
    turns = (Turn("user", "One?"), Turn("assistant", "Yes."), Turn("user", "Two?"))
    text = TEMPLATES["llava_v1"].render(turns, "No.", image=True)
    assert text.endswith(" USER: <image>\nOne? ASSISTANT: Yes.</s>USER: Two? ASSISTANT: No.</s>")


@pytest.mark.parametrize("name", sorted(NAMED))
def test_another_system_text(name):
    template, turns = get_conversation(name), (Turn("user", "One?"),)
    other = template.with_system("Be short.")
    text = other.render_prompt(turns, image=True)
    own = template.system.removeprefix("<|im_start|>system\n")
    assert template.render_prompt(turns, image=True) == text.replace("Be short.", own) != text
    assert (other.name, type(other)) == (name, type(template))


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UserError, match="chatml_direct, llava_v1, muffin, vicuna_v1"):
        get_conversation("llama_3")
