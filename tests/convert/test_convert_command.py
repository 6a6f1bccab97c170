"""The command: errors in one line, nothing overwritten or half-written, nothing heavy for --help."""

import contextlib
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from etils import epath

from convert import __main__ as command
from convert.__main__ import check_destination, shard_bytes
from convert.in_place import in_place_of
from convert.load import import_model, open_model
from convert.orbax_dir import clear
from rlaifv_jax.errors import UserError
from tests import world
from tests.convert.llavas import TinyLlava
from tests.convert.test_export import run


def test_help_is_light() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "convert", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "python -m convert export" in done.stdout
    modules = {line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert not modules & {"jax", "numpy", "torch", "transformers", "flax", "orbax", "safetensors"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("inspect", "{tmp}/nothing"), "neither a directory nor a hub id"),
        (("inspect", "{tmp}/empty"), "config.json: there is no such file"),
        (("export", "{model}", "{tmp}/x", "--layout", "original", "--shard-size", "huge"), "is not a size"),
        (("export", "{model}", "{model}", "--layout", "original", "--force"), "is SRC itself"),
        (("import", "{model}", "{tmp}/other"), "is not empty; give --force to replace it"),
        (("import", "{model}", "{tmp}/full"), "holds something that is no model"),
        (("import", "{model}", "{tmp}/full", "--force"), "holds something that is no model"),
        (("export", "{model}", "{tmp}/full", "--layout", "original"), "holds something that is no model"),
        (("import", "{model}", "/proc", "--force"), "is a mount point"),
        (("export", "{model}", "{model}/..", "--layout", "original", "--force"), "contains SRC"),
        (("import", "{model}", "{tmp}/full/file"), "is a file"),
        (("import", "{model}", "{tmp}/x", "--template", "chatty"), "choose one of: chatml_direct, llava_v1"),
    ],
)
def test_errors_are_one_line(
    arguments: tuple[str, ...],
    message: str,
    tiny_llava: TinyLlava,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = tiny_llava.write(tmp_path / "model")
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/config.json").write_text("{}")
    (tmp_path / "full/file").write_text("mine")
    assert run(monkeypatch, *(part.format(tmp=tmp_path, model=model) for part in arguments)) == 2
    stderr = capsys.readouterr().err
    assert stderr.startswith("error: ")
    assert stderr.count("\n") == 1
    assert message in stderr
    assert not (tmp_path / "x").exists()
    assert (tmp_path / "full/file").read_text() == "mine"


def test_force_replaces(
    tiny_llava: TinyLlava, grouped_llava: TinyLlava, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = tiny_llava.write(tmp_path / "1"), grouped_llava.write(tmp_path / "2")
    for arguments in (
        ("import", "{}", tmp_path / "b"),
        ("export", "{}", tmp_path / "c", "--layout", "llava-hf"),
    ):
        assert run(monkeypatch, *(one if a == "{}" else a for a in arguments)) == 0
        (Path(arguments[2]) / "left.over").write_text("")
        assert run(monkeypatch, *(other if a == "{}" else a for a in arguments), "--force") == 0
        assert not (Path(arguments[2]) / "left.over").exists()
        assert open_model(arguments[2]).config.decoder.kv_heads == 2


def test_interrupted_writing_leaves_nothing_that_looks_complete(
    tiny_llava: TinyLlava, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_llava.write(tmp_path / "a")

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("convert.export.ShardWriter.write", stop)
        assert run(patch, "export", model, tmp_path / "c", "--layout", "original") == 130
        patch.setattr("convert.load.write_params", stop)
        assert run(patch, "import", model, tmp_path / "b") == 130
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_an_unfinished_directory_needs_no_force(
    tiny_llava: TinyLlava, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training writes in place, and so does the import into the cloud."""
    model = tiny_llava.write(tmp_path / "a")
    open_model(model).save_assets(tmp_path / "b")
    with pytest.raises(UserError, match="its writing was interrupted"):
        open_model(tmp_path / "b")
    assert run(monkeypatch, "import", model, tmp_path / "b") == 0
    assert open_model(tmp_path / "b").config.decoder.layers == 2


def test_without_gcsfs() -> None:
    words = ["import sys", "sys.modules['gcsfs'] = None", "from convert.__main__ import main", "main()"]
    done = world.run([sys.executable, "-c", "; ".join(words), "inspect", "gs://bucket/model"])
    assert done.returncode == 2
    assert "rlaifv-jax[gcs]" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("form", ["hugging face", "ours"])
def test_a_killed_clear_is_recognised(
    form: str, tiny_llava: TinyLlava, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`clear` prepares a directory in the cloud. Wherever it is killed, the next import needs no --force."""
    model = tiny_llava.write(tmp_path / "a")
    import_model(open_model(model), tmp_path / "ours")
    for kills in range(8):
        target = shutil.copytree(model if form == "hugging face" else tmp_path / "ours", tmp_path / str(kills))
        left = kills

        def fragile(work: Callable[..., None]) -> Callable[..., None]:
            def change(*arguments: object, **options: object) -> None:
                nonlocal left
                left -= 1
                if left < 0:
                    raise KeyboardInterrupt
                work(*arguments, **options)

            return change

        with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
            path = type(epath.Path(target))
            for name in ("unlink", "rmtree", "write_text"):
                patch.setattr(path, name, fragile(getattr(path, name)))
            clear(target)
        if kills:
            check_destination(str(model), str(target), force=False)
        else:
            assert open_model(target)
    assert [entry.name for entry in target.iterdir()] == ["rlaifv.json"]


def test_the_old_model_stays_until_the_new_one_is_whole(
    tiny_llava: TinyLlava, grouped_llava: TinyLlava, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    import_model(open_model(tiny_llava.write(tmp_path / "a")), target)
    import_model(open_model(grouped_llava.write(tmp_path / "b")), source)
    whole = shutil.copytree(source, tmp_path / "whole")
    opened = open_model(source)
    for file in source.glob("params/d/*"):
        file.write_bytes(b"")
    with pytest.raises(UserError, match=rf"{source}/params: \S+ is damaged or incomplete"):
        import_model(opened, target)  # what was whole when it was opened
    assert run(monkeypatch, "import", source, target, "--force") == 2
    assert open_model(target).config.decoder.kv_heads == 4
    (tmp_path / "link").symlink_to(target)
    assert run(monkeypatch, "import", whole, tmp_path / "link", "--force") == 0
    assert open_model(target).config.decoder.kv_heads == 2
    assert not list(tmp_path.glob(".*"))


def test_a_kill_between_the_renames_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / ".model.old").mkdir()
    (tmp_path / ".model.old/mine").write_text("old")
    (tmp_path / ".model.partial").mkdir()
    with contextlib.suppress(KeyboardInterrupt), in_place_of(tmp_path / "model") as partial:
        assert not list(partial.iterdir())
        raise KeyboardInterrupt
    assert [file.read_text() for file in tmp_path.rglob("*") if file.is_file()] == ["old"]
    assert (tmp_path / "model/mine").exists()


def test_a_full_disk_is_one_line(
    tiny_llava: TinyLlava, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_llava.write(tmp_path / "a")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        assert run(monkeypatch, "import", model, tmp_path / "b") == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "params cannot be written (" in capsys.readouterr().err
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_inspect(
    tiny_llava: TinyLlava,
    tokenizer_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = tiny_llava.write(tmp_path / "a", "llava-hf", "bin-shards", tokenizer=tokenizer_dir)
    assert run(monkeypatch, "inspect", model) == 0
    said = capsys.readouterr().out
    for part in (
        "llava-hf",
        "float32 100%",
        "44,768 parameters",
        "2 × .bin",
        "tokenizer.model",
        "every tensor",
    ):
        assert part in said
    assert run(monkeypatch, "import", model, tmp_path / "b", "--template", "vicuna_v1") == 0
    assert run(monkeypatch, "inspect", tmp_path / "b") == 0
    said = capsys.readouterr().out
    assert "params/ (Orbax)" in said
    assert "vicuna_v1" in said


def test_sizes() -> None:
    assert [shard_bytes(size) for size in ("5GB", "1.5 MB", "2GiB", "7")] == [5 * 10**9, 1_500_000, 2**31, 7]
    for wrong in ("", "GB", "-5GB", "5XB", "0"):
        with pytest.raises(UserError, match="is not a size"):
            shard_bytes(wrong)


def test_docstring_is_the_help() -> None:
    assert command.__doc__
    assert command.__doc__.strip() in command.parser().format_help()
