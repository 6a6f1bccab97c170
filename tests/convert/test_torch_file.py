"""PyTorch files: every kind of tensor that occurs, and no pickle that does more than hold tensors."""

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from convert.torch_file import read_torch
from rlaifv_jax.errors import UserError


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch /tmp/rlaifv-was-here",)


def write_pickle(file: Path, program: bytes) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/version", "3\n")
    return file


def test_reads_what_torch_writes(tmp_path: Path) -> None:
    base = torch.randn(6, 8)
    state = {
        "plain": base,
        "transposed": base.t(),
        "strided": base[1::2, 3:],
        "expanded": torch.randn(4, 1).expand(4, 5),
        "parameter": torch.nn.Parameter(torch.randn(3)),
        "half": torch.randn(5).half(),
        "brain": torch.randn(5, 2).bfloat16(),
        "scalar": torch.tensor(2.5),
    }
    file = tmp_path / "x.bin"
    torch.save(state, file)
    tensors = read_torch(file)
    assert tensors.keys() == state.keys()
    for name, tensor in state.items():
        ours = tensors[name].read()
        assert ours.shape == tuple(tensor.shape)
        np.testing.assert_array_equal(ours.astype(np.float32), tensor.detach().float().numpy())
    np.testing.assert_array_equal(
        tensors["transposed"].read((slice(2, 5), slice(1, 3)), (1, 0)), base[1:3, 2:5].numpy()
    )


def test_reads_a_module_state_dict(tmp_path: Path) -> None:
    module = torch.nn.Linear(3, 2)
    torch.save(module.state_dict(), tmp_path / "x.bin")  # an OrderedDict with metadata attached
    np.testing.assert_array_equal(read_torch(tmp_path / "x.bin")["weight"].read(), module.weight.detach().numpy())


def test_refuses_programs(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(2), "more": Evil()}, tmp_path / "x.bin")
    with pytest.raises(UserError, match=r"x\.bin: its pickle asks for (posix|os)\.system"):
        read_torch(tmp_path / "x.bin")
    assert not Path("/tmp/rlaifv-was-here").exists()
    for program, asked in (
        (b"cbuiltins\neval\n(S'1'\ntR.", r"builtins\.eval"),
        (b"ctorch\nload\n(S'x'\ntR.", r"torch\.load"),
        (pickle.dumps(np.zeros(3)), "numpy"),
    ):
        with pytest.raises(UserError, match=asked):
            read_torch(write_pickle(tmp_path / "y.bin", program))
    with pytest.raises(UserError, match="something else than names and tensors"):
        read_torch(write_pickle(tmp_path / "z.bin", pickle.dumps({"a": 1})))


def test_refuses_tensors_beyond_their_storage(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(4)}, tmp_path / "x.bin")
    with zipfile.ZipFile(tmp_path / "x.bin") as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    program = next(name for name in entries if name.endswith("data.pkl"))
    entries[program] = entries[program].replace(b"K\x04\x85", b"K\x09\x85")  # the shape (4,) becomes (9,)
    with zipfile.ZipFile(tmp_path / "y.bin", "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    with pytest.raises(UserError, match=r"beyond its storage"):
        read_torch(tmp_path / "y.bin")


def test_old_format(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(4)}, tmp_path / "x.bin", _use_new_zipfile_serialization=False)
    with pytest.raises(UserError, match=r"PyTorch before 1\.6.*torch\.save\(torch\.load"):
        read_torch(tmp_path / "x.bin")
