"""A vision-language model that answers yes or no: which tokens say so, and how its prompts are cut into branches."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlaifv_jax.data.encode import Answer, Encoded
from rlaifv_jax.data.templates import Turn
from rlaifv_jax.errors import UserError
from rlaifv_jax.feedback.rules import WORDS
from rlaifv_jax.sampling.prompt import Prompter


@dataclass(frozen=True)
class AnswerTokens:
    """The token that is each of WORDS at the beginning of an answer; None where the word takes several."""

    ids: tuple[int | None, ...]

    def scores(self, chances: np.ndarray) -> dict[str, float]:
        """Probabilities float32[known words] → those of all words; a word of several tokens has none."""
        values = iter(chances.tolist())
        return {word: 0.0 if token is None else next(values) for word, token in zip(WORDS, self.ids, strict=True)}

    @property
    def known(self) -> list[int]:
        return [token for token in self.ids if token is not None]


def answer_tokens(prompter: Prompter, where: str) -> AnswerTokens:
    """Found by tokenising whole conversations, since what a word becomes depends on what stands before it.

    For LLaVA-1.5: yes 4874, Yes 3869, no 694, No 1939, as the original has them.

    Raises:
      UserError: neither a yes or no a no is one token, so that nothing can be read off a single step.
    """
    question = [Turn("user", "Is it?")]
    prompt = prompter.encode(question, None).prefix.tolist()
    template, tokenizer = prompter.template, prompter.tokenizer
    whole = template.tokenize(tokenizer, template.render(question, WORDS[0], image=False))
    if whole[: len(prompt)] != prompt:
        raise UserError(
            f"{where}: its template {template.name!r} asks in another layout than that of answers, so that the next "
            "token is no answer; it cannot be a labeler"
        )
    ids: list[int | None] = []
    for word in WORDS:
        whole = template.tokenize(tokenizer, template.render(question, word, image=False))
        alone = whole[: len(prompt)] == prompt and len(whole) == len(prompt) + 2  # the word and the end token
        ids.append(whole[len(prompt)] if alone else None)
    if not (any(ids[:2]) and any(ids[2:])):
        raise UserError(
            f"{where}: its tokenizer has no single token for yes or for no, so it cannot be a labeler; choose another"
        )
    return AnswerTokens(tuple(ids))


def branched(prompter: Prompter, prompts: Sequence[Encoded]) -> Encoded:
    """What all prompts about a picture have in common, once, and the rest of each as a branch.

    prompts: one or more, of `prompter.encode`, with the picture before the question.
    """
    opening = prompter.encode([Turn("user", "")], prompts[0].picture).prefix
    shared = min(_common(opening, prompt.prefix) for prompt in prompts)
    rests = [prompt.prefix[shared:] for prompt in prompts]
    answers = tuple(Answer(rest, np.zeros(len(rest), bool)) for rest in rests)
    return Encoded(prompts[0].prefix[:shared], answers, (), prompts[0].picture)


def _common(opening: np.ndarray, ids: np.ndarray) -> int:
    """How many tokens both begin with; at least the last of `ids` is left for the branch."""
    most = min(len(opening), len(ids) - 1)
    differ = np.flatnonzero(opening[:most] != ids[:most])
    return int(differ[0]) if len(differ) else most
