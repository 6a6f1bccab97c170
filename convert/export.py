"""Write a model for others: the layout of the original code, or that of transformers.

    original    LlavaLlamaForCausalLM, opens in haotian-liu/LLaVA and RLAIF-V
    llava-hf    LlavaForConditionalGeneration or LlavaNextForConditionalGeneration, opens in transformers

A language model without a tower has one layout only, LlamaForCausalLM, whichever is asked for. OmniLMM, Muffin and
MiniCPM-V have `original` only: transformers has no such classes.

The vocabularies differ. transformers needs a row for `<image>` and one for `<pad>` and rounds the rows up to
a multiple of 64, so `llava-hf` gets rows appended (the mean of the others; no text uses them), and
`original` loses them again.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from convert import layouts
from convert.decoder import Entry
from convert.export_files import write_files
from convert.in_place import in_place_of
from convert.load import StoredModel
from convert.safetensors_file import ShardWriter
from convert.tensors import DTYPES
from rlaifv_jax.errors import UserError

ROW_MULTIPLE = 64
VOCABULARY = ("decoder/embedding", "decoder/head/kernel")


def export_model(
    source: StoredModel,
    destination: Path,
    layout: str,
    dtype: str = "keep",
    shard_bytes: int = 5 * 10**9,
    template: str | None = None,
    with_tower: bool = False,
) -> None:
    """Write weights, config, tokenizer, processor and generation files to `destination`.

    `destination` is complete or absent; an older `destination` is replaced at the end. Memory: one shard.

    Args:
      source: from `open_model`; in the same layout, with 'keep', every tensor comes out bit for bit.
      layout: 'original' or 'llava-hf'. dtype: 'keep' or a name in convert.tensors.DTYPES.
      template: conversation template for the chat template; None: that of the source.
      with_tower: write the image tower to the original layout although the source took it from elsewhere.

    Raises:
      UserError: no tokenizer where one must be rewritten, or one that cannot be.
    """
    with in_place_of(destination) as partial:
        target = layouts.named(source.family.name, layout if source.family.sees else "original")
        tower = with_tower or layout != "original" or source.notes.tower == "inside"
        rows = target_rows(source, layout)
        write_files(source, partial, layout, rows, dtype, template, tower)
        ShardWriter(partial, shard_bytes).write(_tensors(source, target, rows, dtype, tower))


def target_rows(source: StoredModel, layout: str) -> int:
    """Rows of the vocabulary in the exported model."""
    rows: int = source.config.decoder.vocab_size
    if not source.family.sees or (source.source_layout == "original") == (layout == "original"):
        return rows
    if layout == "original":
        return original_rows(source)
    return math.ceil((rows + 2) / ROW_MULTIPLE) * ROW_MULTIPLE


def original_rows(source: StoredModel) -> int:
    """Rows that the tokenizer had before `<image>`, the first token that transformers adds."""
    rows: int = source.config.decoder.vocab_size
    raw = source.raw_config
    image = int(raw.get("image_token_index") or raw.get("image_token_id") or 32000)
    pieces = 0
    model = source.directory / "tokenizer.model"
    if model.exists():
        import sentencepiece

        pieces = sentencepiece.SentencePieceProcessor(model_file=str(model)).get_piece_size()
    wanted = max(image, pieces)
    if wanted > rows:
        raise UserError(f"{source.directory}: the tokenizer has {wanted} pieces, the model only {rows} rows")
    return wanted


def _tensors(
    source: StoredModel, target: layouts.Layout, rows: int, dtype: str, tower: bool
) -> Iterator[tuple[str, np.ndarray]]:
    tensors: dict[str, list[Entry]] = {}
    for entry in source.entries:
        if tower or entry.part != "vision":
            tensors.setdefault(target.full(entry.part, entry.name), []).append(entry)
    for name, entries in tqdm(tensors.items(), desc="exporting", unit=" tensors", disable=None):
        pieces = [_theirs(source, entry, rows, dtype) for entry in entries]
        yield name, pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def _theirs(source: StoredModel, entry: Entry, rows: int, dtype: str) -> np.ndarray:
    leaf = source.leaves[entry.path]
    kept = leaf.dtype_of(entry.layer)
    tensor = leaf.read(entry.layer)
    if entry.back is not None:
        tensor = np.transpose(tensor, entry.back)
    if entry.path in VOCABULARY:
        tensor = _resize(tensor, rows)
    with np.errstate(over="ignore"):
        narrow = tensor.astype(kept if dtype == "keep" else DTYPES[dtype], copy=False)
    if dtype == "float16" and np.isinf(narrow).any() and np.isfinite(tensor).all():
        raise UserError(f"{entry.name} has values beyond float16; export as bfloat16 or float32")
    return np.ascontiguousarray(narrow)


def _resize(tensor: np.ndarray, rows: int) -> np.ndarray:
    """[V, D] with rows cut off, or the mean row appended."""
    if rows <= len(tensor):
        return tensor[:rows]
    mean = tensor.mean(axis=0, dtype=np.float32).astype(tensor.dtype)
    return np.concatenate([tensor, np.broadcast_to(mean, (rows - len(tensor), tensor.shape[1]))])
