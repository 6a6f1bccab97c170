"""How often the loops of a compiled program run, and with them everything in it.

The bound in a loop's condition is not its trip count, because the compiler unrolls loops and lets the counter step
by 2: the scalars that the condition depends on are run.
"""

import operator
import re
from collections.abc import Callable
from functools import partial

from launch.hlo import Computation, Instruction, Module


def trip_counts(module: Module) -> dict[str, int | None]:
    """Iterations of every `while` by its name, None where they depend on data."""
    return {
        instruction.name: _trip_count(module.computations, computation, instruction)
        for computation in module.computations.values()
        for instruction in computation.instructions.values()
        if instruction.opcode == "while"
    }


def executions(module: Module) -> dict[str, float]:
    """How often each computation runs in one step, for those that are sequences of instructions.

    Entry, loop bodies, calls and branches; not the insides of fusions, reductions and asynchronous wrappers. Nested
    loops multiply. A loop with an unknown trip count counts once, and so does every branch of a conditional.
    """
    trips = trip_counts(module)
    counts: dict[str, float] = {}

    def visit(computation: Computation, times: float) -> None:
        counts[computation.name] = counts.get(computation.name, 0) + times
        for instruction in computation.instructions.values():
            if instruction.opcode == "while":
                known, body = trips[instruction.name], instruction.attribute("body")
                visit(module.computations[str(body)], times * (1 if known is None else known))
            elif instruction.opcode == "conditional":
                for branch in instruction.branches:
                    visit(module.computations[branch], times)
            elif instruction.opcode == "call" and (called := module.called(instruction)):
                visit(called, times)

    visit(module.entry, 1)
    return counts


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
