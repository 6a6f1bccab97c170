"""What no tokenizer should be given."""

from rlaifv_jax.data.faults import BadRow

MAX_LETTERS = 10**6  # more than any context here holds; tokenizers take a hundred times a text's memory


def check_text(text: str, where: str = "the text") -> None:
    """Raises `BadRow` for a text that is none, or too long to be tokenised. where: it stands, for people."""
    if len(text) > MAX_LETTERS:
        raise BadRow("text_too_long", f"{where} has {len(text):,} letters; at most {MAX_LETTERS:,} are read")
    if not is_unicode(text):
        raise BadRow("not_unicode", f"{where} contains half of a surrogate pair")


def is_unicode(text: str) -> bool:
    """False where it holds half of a surrogate pair, which JSON can write and no tokenizer reads."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)
