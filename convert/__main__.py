"""Bring models in and out: Hugging Face directories ⇄ directories of this project.

    python -m convert inspect liuhaotian/llava-v1.5-7b             what is it? (reads headers only)
    python -m convert import  models/llava-v1.5-7b  models/llava   → config, tokenizer, Orbax arrays
    python -m convert export  out/run/weights/800   models/mine --layout llava-hf --dtype bfloat16
    python -m convert export  models/a-hf  models/a-original --layout original    (no import needed)

Training, generation and the rest open all of these forms directly, so `import` is a matter of speed and of
cloud storage: DST of `import` may be gs://bucket/model. `export` writes what the original code (layout
`original`) or transformers (layout `llava-hf`) opens, tokenizer, processor and generation files included.
OmniLMM, MiniCPM-V and Muffin have the layout `original` only.
SRC may be adapters (LoRA) of PEFT, which lie beside a model: they are merged into it, or kept apart with --adapter.
Without --dtype every tensor keeps its own dtype, and import → export in the same layout is bit-exact.

Names of the tensors may be those of any of the five LLaVA layouts, in safetensors or PyTorch files, in one
or in shards; PyTorch files are read without running what their pickles say.
"""

import argparse
import os
import re
import sys
from pathlib import Path
from typing import Any

from rlaifv_jax.cli import guard
from rlaifv_jax.errors import UserError
from rlaifv_jax.places import fault, is_remote

SHARD_SIZE = "5GB"
UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m convert", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = top.add_subparsers(dest="command", required=True)
    source = argparse.ArgumentParser(add_help=False)
    source.add_argument("source", metavar="SRC", help="Hugging Face directory, hub id, or a directory of this project")
    source.add_argument("--vision-path", help="the CLIP tower, for checkpoints without one (directory or hub id)")
    target = argparse.ArgumentParser(add_help=False)
    target.add_argument("destination", metavar="DST", help="directory to write")
    target.add_argument(
        "--force", action="store_true", help="replace what DST holds, at the end; the disk holds both till then"
    )
    target.add_argument("--template", help="conversation template the model was trained with, e.g. llava_v1")
    commands.add_parser("inspect", parents=[source], help="say what SRC is, from headers alone")
    commands.add_parser("import", parents=[source, target], help="write SRC as a directory of this project")
    export = commands.add_parser("export", parents=[source, target], help="write SRC as a Hugging Face directory")
    export.add_argument("--layout", required=True, choices=("original", "llava-hf"))
    export.add_argument(
        "--adapter", action="store_true", help="write the adapters of SRC as such, instead of a model with them merged"
    )
    export.add_argument("--dtype", default="keep", choices=("keep", "bfloat16", "float16", "float32"))
    export.add_argument("--shard-size", default=SHARD_SIZE, metavar="SIZE", help="largest file (default 5GB)")
    export.add_argument(
        "--with-tower",
        action="store_true",
        help="LLaVA alone: write the image tower even where the source came without one",
    )
    return top


def shard_bytes(text: str) -> int:
    """'5GB' → 5000000000. Raises `UserError` for anything that is not a size."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *([A-Za-z]*)", text.strip())
    unit = UNITS.get(found[2].upper()) if found else None
    if found is None or unit is None or float(found[1]) * unit < 1:
        raise UserError(f"--shard-size {text!r} is not a size; write for example 5GB or 500MB")
    return int(float(found[1]) * unit)


def check_destination(source: str, destination: str, force: bool) -> None:
    """Raise unless DST is empty, left over from an interrupted import, or --force is given."""
    from etils import epath

    from convert.orbax_dir import is_unfinished

    target = epath.Path(destination)
    if os.path.exists(source) and os.path.realpath(source) == os.path.realpath(destination):
        raise UserError(f"{destination} is SRC itself; write to another directory")
    if os.path.exists(source) and os.path.realpath(source).startswith(os.path.realpath(destination) + os.sep):
        raise UserError(f"{destination} contains SRC; write to another directory")
    if target.exists() and not target.is_dir():
        raise UserError(f"{destination} is a file; DST must be a directory")
    if os.path.ismount(destination):
        raise UserError(f"{destination} is a mount point, which cannot be replaced; write to a directory below it")
    filled = target.exists() and next(iter(target.iterdir()), None) is not None
    if filled and not any((target / name).exists() for name in ("config.json", "rlaifv.json", "adapter_config.json")):
        raise UserError(f"{destination} holds something that is no model; remove it yourself, or write elsewhere")
    if filled and not force and not is_unfinished(destination):
        raise UserError(f"{destination} is not empty; give --force to replace it")


def run(arguments: Any) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import jax

    jax.config.update("jax_platforms", "cpu")  # a conversion needs memory, not accelerators
    from convert.load import open_model

    if arguments.command == "inspect":
        from convert.inspect import describe

        print(describe(arguments.source, arguments.vision_path))
        return
    if arguments.template:
        from rlaifv_jax.data.conversation import get_conversation

        get_conversation(arguments.template)
    size = shard_bytes(arguments.shard_size) if arguments.command == "export" else 0
    check_destination(arguments.source, arguments.destination, arguments.force)
    checkpoint = open_model(arguments.source, arguments.vision_path)
    for base in checkpoint.adapters.bases if checkpoint.adapters else ():
        within = (os.path.realpath(base) + os.sep).startswith(os.path.realpath(arguments.destination) + os.sep)
        if os.path.exists(base) and within:
            raise UserError(f"{arguments.destination} is what the adapters lie beside; write to another directory")
    if getattr(arguments, "template", None) and checkpoint.family.only_own_template:
        raise UserError(f"--template: {checkpoint.family.name} speaks by its tokenizer's own template")
    if arguments.command == "import":
        from convert.load import import_model

        import_model(checkpoint, arguments.destination, arguments.template)
    else:
        if is_remote(arguments.destination):
            raise UserError("export: DST must be a local directory; copy it to the cloud then (gcloud storage cp -r)")
        if arguments.adapter:
            from convert.adapter_files import export_adapter

            if arguments.with_tower or arguments.shard_size != SHARD_SIZE:
                raise UserError("--with-tower and --shard-size are of whole models; leave them out with --adapter")
            destination = Path(arguments.destination).absolute()
            export_adapter(checkpoint, destination, arguments.layout, arguments.dtype, arguments.template)
            print(f"wrote {arguments.destination}")
            return
        from convert.export import export_model

        export_model(
            checkpoint,
            Path(arguments.destination).absolute(),
            arguments.layout,
            arguments.dtype,
            size,
            arguments.template,
            arguments.with_tower,
        )
    print(f"wrote {arguments.destination}")


def main() -> None:
    """Entry of the console script `rlaifv-convert`."""
    arguments = parser().parse_args()

    def command() -> None:
        try:
            run(arguments)
        except BrokenPipeError:  # for `guard`
            raise
        except (OSError, ImportError) as error:  # of DST or SRC; what a gs:// path needs is not installed
            raise fault(error) or UserError(str(error)) from None

    sys.exit(guard(command))


if __name__ == "__main__":
    main()
