"""The small files of an exported model: config, processor, generation settings, chat template, tokenizer."""

import json
import shutil
from pathlib import Path

from convert.export_config import (
    KINDS,
    llava_hf_config,
    named_ids,
    original_config,
    preprocessor,
    processor,
    stored_dtype,
    vision_fields,
)
from convert.export_tokenizer import write_hf_tokenizer, write_original_tokenizer
from convert.load import StoredModel
from rlaifv_jax.cli import say
from rlaifv_jax.data.conversation import conversation_of, get_conversation
from rlaifv_jax.data.templates import Conversation, Template
from rlaifv_jax.data.tokenizer import is_tokenizer, load_tokenizer
from rlaifv_jax.errors import UserError
from rlaifv_jax.models.hf_config import KNOWN_TOWERS, Json, Section, tower_config


def write_files(
    source: StoredModel, folder: Path, layout: str, rows: int, dtype: str, template: str | None, tower: bool
) -> None:
    """Everything but weights. Within a layout files are copied and gaps filled, between layouts they are made anew.

    rows: vocabulary of the exported model. tower: whether the image tower is among the weights.
    """
    stored = stored_dtype(source) if dtype == "keep" else dtype
    original = layout == "original"
    copied = not source.family.sees or (source.source_layout == "original") == original
    if copied:
        for file in source.assets:
            shutil.copyfile(file, folder / file.name)
        config = dict(source.raw_config)
        config |= {key: stored for key in ("torch_dtype", "dtype") if config.get(key) is not None}
        if original and tower and source.family.name in KINDS and not names_its_tower(source):
            config["vision_config"] = vision_fields(source)
        if config != source.raw_config:
            _write(folder / "config.json", config)
        image = source.raw_config.get("image_token_index", source.raw_config.get("image_token_id"))
    else:
        image = source.config.decoder.vocab_size
        _write(
            folder / "config.json",
            original_config(source, rows, stored) if original else llava_hf_config(source, rows, stored),
        )
    if source.family.name not in KINDS:
        return  # what others need has come with them
    try:
        _fill_gaps(source, folder, original, rows, image, template)
    except UserError as error:
        if not copied:
            raise
        say(f"note: {error}; the export has the tokenizer files that the source had")


def _fill_gaps(
    source: StoredModel, folder: Path, original: bool, rows: int, image: int | None, template: str | None
) -> None:
    """Make whichever of processor, generation settings, chat template and tokenizer is not in `folder` yet.

    rows: vocabulary of the exported model. image: id of the `<image>` token of transformers' layout.
    """

    def lacks(*names: str) -> bool:
        return not any((folder / name).exists() for name in names)

    pad = 0 if original or image is None else image + 1
    if lacks("preprocessor_config.json", "processor_config.json"):
        _write(folder / "preprocessor_config.json", preprocessor(source, original))
    if lacks("generation_config.json"):
        _write(folder / "generation_config.json", named_ids(source) | {"pad_token_id": pad})
    if original:
        if lacks("tokenizer.model", "tokenizer.json"):
            write_original_tokenizer(source.directory, folder, rows)
        return
    if lacks("processor_config.json"):
        _write(folder / "processor_config.json", processor(source))
    if lacks("chat_template.jinja", "chat_template.json"):
        (folder / "chat_template.jinja").write_text(chat_template(_conversation(source, template)))
    if lacks("tokenizer.json") and image is not None:
        write_hf_tokenizer(source.directory, folder, image, KINDS[source.family.name].processor)


def _conversation(source: StoredModel, name: str | None) -> Template:
    """The template that the model speaks by. Raises `UserError` for one that is not written in Jinja here."""
    found: Conversation
    if is_tokenizer(source.directory):
        found = conversation_of(source, load_tokenizer(source.directory), name)
    else:
        found = get_conversation(name or source.template or source.family.templates[-1])
    if not isinstance(found, Template):
        raise UserError(f"--template: {found.name} cannot be written in Jinja; choose that of a LLaVA")
    return found


def names_its_tower(source: StoredModel) -> bool:
    """Whether a config of the original code tells the sizes of the tower that goes with these weights."""
    raw, sizes = source.raw_config, source.config.vision
    told = raw.get("vision_config") or KNOWN_TOWERS.get(raw.get("mm_vision_tower", ""))
    return told is not None and tower_config(Section(told, ""), sizes.feature_layer, "") == sizes


def chat_template(template: Template) -> str:
    """The conversation template in Jinja: messages of text, or of lists of 'image' and 'text' parts."""
    return (
        f"{template.system}{template.gap}"
        "{% for message in messages %}{% if message['role'] == 'user' %}"
        f"{template.user}{template.colon}{{% else %}}{template.assistant}{template.colon}{{% endif %}}"
        "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
        "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>\\n' }}{% endfor %}"
        "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"
        "{% endif %}{% if message['role'] == 'user' %}"
        f"{{{{ '{template.gap}' }}}}{{% else %}}{template.end}{{% endif %}}"
        "{% endfor %}"
        f"{{% if add_generation_prompt %}}{template.asking}{{% endif %}}"
    )


def _write(file: Path, values: Json) -> None:
    file.write_text(json.dumps(values, indent=2) + "\n")
