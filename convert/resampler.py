"""The resampler of OmniLMM and MiniCPM-V: which tensor becomes which parameter. See convert.decoder for the form."""

from collections.abc import Iterator

from convert.decoder import KEEP, LINEAR, Entry, Rows, linear, norm, thirds

RESAMPLER: Rows = (
    ("query", "query", KEEP),
    ("kv_proj.weight", "input/kernel", LINEAR),
    *norm("ln_q", "query_norm"),
    *norm("ln_kv", "input_norm"),
    *norm("ln_post", "output_norm"),
    *linear("attn.out_proj", "out"),
    ("proj", "output/kernel", KEEP),  # used as it stands: features @ proj
)


def resampler_entries() -> Iterator[Entry]:
    """Every tensor but a table of positions."""
    yield from (Entry("resampler", name, f"resampler/{path}", None, axes) for name, path, axes in RESAMPLER)
    parts = ("to_query", "to_key", "to_value")
    yield from thirds("resampler", "attn.in_proj_weight", "resampler/{}/kernel", parts, None)
    yield from thirds("resampler", "attn.in_proj_bias", "resampler/{}/bias", parts, None)
