"""Which tokens say yes and no, and where a prompt is cut into prefix and branch."""

import numpy as np
import pytest

from rlaifv_jax.data.batch import IMAGE_TOKEN
from rlaifv_jax.data.templates import Turn
from rlaifv_jax.errors import UserError
from rlaifv_jax.feedback import labeler
from rlaifv_jax.feedback.labeler import AnswerTokens, answer_tokens, branched
from tests.sampling.talker import Talker

ASKED = ["Is there a dog?", "is there in the top left a small red star ?", "ASSISTANT: x", "Is there a dog? Is it?"]


def test_words_of_one_token(talker: Talker) -> None:
    """The small world's tokenizer has `yes` and `no`, and no capital letters."""
    encode = talker.prompter.tokenizer.encode
    found = answer_tokens(talker.prompter, "here")
    assert found.ids == (encode("a yes")[-1], None, encode("a no")[-1], None)
    assert found.scores(np.array([0.5, 0.25], np.float32)) == {"yes": 0.5, "Yes": 0.0, "no": 0.25, "No": 0.0}


def test_a_word_of_several_tokens_has_no_mass() -> None:
    tokens = AnswerTokens((None, 7, 8, 9))
    assert tokens.known == [7, 8, 9]
    assert tokens.scores(np.array([1, 2, 3], np.float32)) == {"yes": 0.0, "Yes": 1.0, "no": 2.0, "No": 3.0}


def test_a_tokenizer_without_yes(talker: Talker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labeler, "WORDS", ("Affirmative", "yep", "no", "No"))
    with pytest.raises(UserError, match="no single token for yes or for no"):
        answer_tokens(talker.prompter, "here")


@pytest.mark.parametrize("image", [True, False])
def test_prefix_and_branches_are_the_whole_prompts(talker: Talker, image: bool) -> None:
    picture = talker.prompter.placement(lambda: (60, 90)) if image else None
    prompts = [talker.prompter.encode([Turn("user", question)], picture) for question in ASKED]
    group = branched(talker.prompter, prompts)
    assert group.image_tokens == (9 if image else 0)
    for prompt, answer in zip(prompts, group.answers, strict=True):
        assert np.concatenate([group.prefix, answer.tokens]).tolist() == prompt.prefix.tolist()
        assert len(answer.tokens) > 0
        assert not answer.labels.any()
    if image:
        assert IMAGE_TOKEN in group.prefix
        place = int(np.flatnonzero(group.prefix == IMAGE_TOKEN)[0])
        assert len(group.prefix) > place + 1  # the line break behind the picture is shared too


def test_one_prompt_that_is_the_opening_itself(talker: Talker) -> None:
    group = branched(
        talker.prompter, [talker.prompter.encode([Turn("user", "")], talker.prompter.placement(lambda: (60, 90)))]
    )
    assert len(group.answers[0].tokens) == 1
