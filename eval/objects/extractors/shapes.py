"""The small world: what a sentence claims is a mention, and only the very thing makes it true."""

from collections.abc import Sequence

from eval.benchmark import Mode
from eval.objects.match import Mention
from rlaifv_jax.errors import UserError
from rlaifv_jax.shapes.captions import parse
from rlaifv_jax.shapes.scene import Thing

UNREADABLE = "unreadable"  # the class of sentences that are no claim; it is in no picture


class Shapes:
    name: str = "shapes-1"
    is_reference: bool = False
    world: str = "shapes"

    def in_text(self, text: str, mode: Mode) -> list[Mention]:
        """A mention for every sentence, in order; repeats stay, as in `rlaifv_jax.shapes.measure`. All modes alike."""
        mentions = []
        for sentence in text.split("."):
            parsed = parse(sentence)
            surface = sentence.strip()
            mentions += [Mention(surface, label(claim)) for claim in parsed.claims]
            mentions += [Mention(surface, UNREADABLE)] * parsed.malformed
        return mentions

    def in_phrases(self, phrases: Sequence[str], mode: Mode) -> list[Mention]:
        raise UserError("--extractor shapes reads answers itself; leave the judge away")

    def marked(self, answer: str, mentions: Sequence[Mention]) -> list[str]:
        return list(dict.fromkeys(mention.surface for mention in mentions))


def label(thing: Thing) -> str:
    """The class of a thing: its exact attributes and place."""
    return f"{thing.size} {thing.color} {thing.shape} {thing.row} {thing.col}"
