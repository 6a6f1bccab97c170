"""The command: errors in one line, nothing overwritten or half-written, nothing heavy for --help."""

import subprocess
import sys
from pathlib import Path

import pytest

from convert import __main__ as command
from convert.__main__ import shard_bytes
from convert.load import open_model
from rlaifv_jax.errors import UserError
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
        (("import", "{model}", "{tmp}/full"), "is not empty; --force replaces it"),
        (("import", "{model}", "{tmp}/full", "--force"), "holds something that is no model"),
        (("export", "{model}", "{model}/..", "--layout", "original", "--force"), "contains SRC"),
        (("import", "{model}", "{tmp}/full/file"), "is a file"),
        (("import", "{model}", "{tmp}/x", "--template", "chatty"), "choose one of: llava_v1"),
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
    assert not (tmp_path / "c").exists()
    with pytest.raises(UserError, match="interrupted"):
        open_model(tmp_path / "b")
    assert run(monkeypatch, "import", model, tmp_path / "b") == 0  # a leftover of ours needs no --force
    assert open_model(tmp_path / "b").config.decoder.layers == 2


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
