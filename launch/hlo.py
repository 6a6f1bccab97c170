"""The compiler's optimized text (`compiled.as_text()`) as a structure: computations and their instructions.

Only what the reports need is read: shapes with their memory space, operands, called computations and attributes as
text. The order of instructions is the schedule (`is_scheduled=true`).

A trap of this text: kernel metadata of Pallas calls holds line breaks and braces, so neither a line nor a brace ends
an instruction (the next header or `%name =` does).
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

HBM = 0  # memory space of arrays without a mark; S(1) is VMEM on TPUs, others hold scalars and semaphores

_HEADER = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"  (ROOT )?%([\w.\-]+) = ")
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,<= ]*)\](?:\{([^}]*)\})?")
_NAME = re.compile(r"%([\w.\-]+)")


@dataclass(frozen=True)
class Array:
    """One array of an instruction's result. `space` is the memory it lies in, HBM = 0."""

    dtype: str
    shape: tuple[int, ...]
    space: int

    @property
    def bytes(self) -> float:
        """Without the padding of tiles."""
        return element_bits(self.dtype) * self.size / 8

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def element_bits(dtype: str) -> int:
    """Width of an element type by its name in HLO: bf16, f8e4m3fn, s4, pred; 0 for token and opaque."""
    if dtype == "pred":
        return 8
    width = re.search(r"\d+", dtype)
    return int(width[0]) if width else 0


@dataclass(frozen=True)
class Instruction:
    """One line. arrays: the leaves of its result. inside: text between its parentheses, e.g. the value of a constant.
    operands: names of instructions of the same computation. attributes: all text after the parentheses."""

    name: str
    opcode: str
    arrays: tuple[Array, ...]
    inside: str
    operands: tuple[str, ...]
    attributes: str

    def attribute(self, key: str) -> str | None:
        """The word after `key=`, without % and quotes."""
        found = re.search(rf'\b{key}=[%"]?([\w.\-/]+)', self.attributes)
        return found[1] if found else None

    @property
    def branches(self) -> list[str]:
        """The computations a conditional chooses from."""
        listed = re.search(r"branch_computations=\{([^}]*)\}", self.attributes)
        named = [self.attribute(f"{which}_computation") for which in ("true", "false")]
        return _NAME.findall(listed[1]) if listed else [name for name in named if name]

    @property
    def bytes(self) -> float:
        return sum(array.bytes for array in self.arrays)


@dataclass(frozen=True)
class Computation:
    """Instructions by name, in the order of the schedule."""

    name: str
    instructions: dict[str, Instruction]
    root: Instruction

    def operands(self, instruction: Instruction) -> list[Instruction]:
        return [self.instructions[name] for name in instruction.operands]


@dataclass(frozen=True)
class Module:
    """devices: chips (partitions · replicas) that run the program."""

    computations: dict[str, Computation]
    entry: Computation
    devices: int

    def called(self, instruction: Instruction) -> Computation | None:
        """The computation of a fusion, call or asynchronous operation."""
        name = instruction.attribute("calls") or (
            instruction.attribute("to_apply") if instruction.opcode == "call" else None
        )
        return self.computations[name] if name else None


def parse(text: str) -> Module:
    """The structure of an optimized module.

    Raises:
      ValueError: the text is no HLO module with an entry computation.
    """
    computations: dict[str, Computation] = {}
    entry = None
    for is_entry, name, lines in _blocks(text):
        parsed = [(line.startswith("  ROOT "), _instruction(line)) for line in lines]
        roots = [instruction for is_root, instruction in parsed if is_root]
        if not roots:
            raise ValueError(f"computation %{name} has no ROOT: the text is cut or no optimized HLO")
        computations[name] = Computation(name, {instruction.name: instruction for _, instruction in parsed}, roots[0])
        entry = computations[name] if is_entry else entry
    if entry is None:
        raise ValueError("no ENTRY computation: this is not the text of a compiled module")
    devices = math.prod(
        int(count) for count in re.findall(r"\b(?:num_partitions|replica_count)=(\d+)", text.split("\n", 1)[0])
    )
    return Module(computations, entry, devices)


def _blocks(text: str) -> Iterator[tuple[bool, str, list[str]]]:
    """(is the entry, name, one string per instruction) of every computation."""
    header: re.Match[str] | None = None
    lines: list[str] = []
    for line in text.split("\n"):
        if line[:1] in ("%", "E") and (found := _HEADER.fullmatch(line)):
            if header:
                yield bool(header[1]), header[2], lines
            header, lines = found, []
        elif header and _INSTRUCTION.match(line):
            lines.append(line)
        elif lines and line != "}":
            lines[-1] += "\n" + line  # the rest of an attribute with line breaks
    if header:
        yield bool(header[1]), header[2], lines


def _instruction(line: str) -> Instruction:
    start = _INSTRUCTION.match(line)
    assert start  # _blocks yields no other lines
    end = _closing(line, start.end()) if line[start.end()] == "(" else line.index(" ", start.end())
    result = line[start.end() : end]
    opening = line.index("(", end)
    closing = _closing(line, opening)
    inside = line[opening + 1 : closing - 1]
    return Instruction(
        name=start[2],
        opcode=line[end:opening].strip(),
        arrays=tuple(_array(*found) for found in _ARRAY.findall(result)),
        inside=inside,
        operands=tuple(_NAME.findall(inside)),
        attributes=line[closing:],
    )


def _closing(line: str, opening: int) -> int:
    """One past the parenthesis that closes the one at `opening`."""
    depth = 0
    for place in range(opening, len(line)):
        depth += (line[place] == "(") - (line[place] == ")")
        if depth == 0:
            return place + 1
    raise ValueError(f"unbalanced parentheses: {line[:80]!r}")


def _array(dtype: str, lengths: str, layout: str) -> Array:
    space = re.search(r"(?<![A-Z])S\((\d+)\)", layout)
    shape = tuple(int(length.strip(" <=")) for length in lengths.split(",") if length.strip())
    return Array(dtype, shape, int(space[1]) if space else HBM)
