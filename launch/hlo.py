"""The compiler's optimized text (`compiled.as_text()`) as a structure: computations, instructions, trip counts.

Only what the reports need is read: shapes with their memory space, operands, called computations and attributes as
text. The order of instructions is the schedule (`is_scheduled=true`).

Two traps of this text: kernel metadata of Pallas calls holds line breaks and braces, so neither a line nor a
brace ends an instruction (the next header or `%name =` does); and the bound in a loop's condition is not its trip
count, because the compiler unrolls loops and lets the counter step by 2.
"""

import math
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

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
    """devices: chips (partitions · replicas) that run the program. trips: iterations of every `while` by name,
    None where they depend on data."""

    computations: dict[str, Computation]
    entry: Computation
    devices: int
    trips: dict[str, int | None]

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
    trips = {
        instruction.name: _trip_count(computations, computation, instruction)
        for computation in computations.values()
        for instruction in computation.instructions.values()
        if instruction.opcode == "while"
    }
    return Module(computations, entry, devices, trips)


def executions(module: Module) -> dict[str, float]:
    """How often each computation runs in one step, for those that are sequences of instructions.

    Entry, loop bodies, calls and branches; not the insides of fusions, reductions and asynchronous wrappers. Nested
    loops multiply. A loop with an unknown trip count (`module.trips` is None) counts once, and so does every
    branch of a conditional.
    """
    counts: dict[str, float] = {}

    def visit(computation: Computation, times: float) -> None:
        counts[computation.name] = counts.get(computation.name, 0) + times
        for instruction in computation.instructions.values():
            if instruction.opcode == "while":
                trips = module.trips[instruction.name]
                body = instruction.attribute("body")
                visit(module.computations[str(body)], times * (1 if trips is None else trips))
            elif instruction.opcode == "conditional":
                for branch in instruction.branches:
                    visit(module.computations[branch], times)
            elif instruction.opcode == "call" and (called := module.called(instruction)):
                visit(called, times)

    visit(module.entry, 1)
    return counts


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


class _Unknown(Exception):
    """A scalar that the text alone does not determine."""


_ARITHMETIC = {"add": operator.add, "subtract": operator.sub, "multiply": operator.mul, "and": operator.and_}
_SAME_VALUE = ("copy", "convert", "bitcast", "reshape", "copy-start", "copy-done")
_LONGEST = 10**6  # iterations that are counted before a loop is called unknown

_Parameter = Callable[[int, int], int]  # (parameter number, tuple element) → value


def _trip_count(computations: dict[str, Computation], parent: Computation, loop: Instruction) -> int | None:
    """Iterations of a `while`: from the compiler's note, or by running the scalars that its condition depends on."""
    known = re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.attributes)
    if known:
        return int(known[1])
    condition, body = (computations[str(loop.attribute(key))] for key in ("condition", "body"))
    values: dict[tuple[int, int], int] = {}

    def element(iteration: int, _: int, index: int) -> int:
        """Element `index` of the loop's state before an iteration."""
        if (iteration, index) not in values:
            state, where = (parent.instructions[loop.operands[0]], parent) if iteration == 0 else (body.root, body)
            if state.opcode != "tuple":
                raise _Unknown
            before = _unknown if iteration == 0 else partial(element, iteration - 1)
            values[iteration, index] = _scalar(computations, where, state.operands[index], before)
        return values[iteration, index]

    try:
        for trips in range(_LONGEST):
            if not _scalar(computations, condition, condition.root.name, partial(element, trips)):
                return trips
    except _Unknown:
        pass
    return None


def _unknown(number: int, index: int) -> int:
    raise _Unknown


def _scalar(computations: dict[str, Computation], where: Computation, name: str, parameter: _Parameter) -> int:
    """The value of an integer instruction."""
    this = where.instructions[name]
    inner = partial(_scalar, computations, where, parameter=parameter)
    if this.opcode == "constant" and re.fullmatch(r"-?\d+|true|false", this.inside):
        return int(this.inside) if this.inside[-1].isdigit() else int(this.inside == "true")
    if this.opcode == "parameter":
        return parameter(int(this.inside), 0)
    if this.opcode == "get-tuple-element":
        source, index = where.instructions[this.operands[0]], int(str(this.attribute("index")))
        if source.opcode == "parameter":
            return parameter(int(source.inside), index)
        if source.opcode == "tuple":
            return inner(source.operands[index])
    if this.opcode in _SAME_VALUE:
        return inner(this.operands[0])
    if this.opcode in _ARITHMETIC:
        return _ARITHMETIC[this.opcode](*map(inner, this.operands))
    if this.opcode == "compare":
        compare = getattr(operator, str(this.attribute("direction")).lower())  # LT, LE, GT, GE, EQ, NE
        return int(compare(*map(inner, this.operands)))
    if this.opcode in ("fusion", "call") and len(this.arrays) == 1:
        called = computations[str(this.attribute("calls") or this.attribute("to_apply"))]
        arguments = [partial(inner, operand) for operand in this.operands]
        return _scalar(computations, called, called.root.name, lambda number, _: arguments[number]())
    raise _Unknown
