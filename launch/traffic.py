"""Bytes a chip moves to and from its HBM in one step, read from the compiler's text. A lower bound, but for
conditionals, all of whose branches count.

Every executed instruction reads its operands and writes its results once, times the trips of its loops. Arrays in
other memories (VMEM, S(1) in the text) are free, so a prefetch from HBM counts and the use of its copy does not.
Where only a part of an array is touched, the part counts:

- a slice, dynamic-slice or gather reads as much as it returns, alone or inside a fusion;
- a dynamic-update-slice or scatter works in place: it writes the update and does not touch the rest;
- a chain of fusions that carries an asynchronous gather (see launch.collectives) moves the gathered array once.

Not seen: the padding of tiles, arrays that an instruction reads more than once (large matrix products, kernels), and
what collectives move besides their operands and results.
"""

import re
from collections.abc import Iterable

from launch.collectives import chain_role
from launch.hlo import HBM, Array, Computation, Instruction, Module
from launch.loops import executions

# Instructions that only name arrays or pass control; what they control counts by itself.
_NAMES = ("bitcast", "constant", "get-tuple-element", "parameter", "tuple")
_CONTROL = ("after-all", "call", "conditional", "domain", "opt-barrier", "while")
_FREE_CALLS = ("AllocateBuffer", "ConcatBitcast", "AssumeGatherIndicesInBound")
_PARTS = ("slice", "dynamic-slice", "gather")  # the result is a part of operand 0
_UPDATES = {"dynamic-update-slice": 1, "scatter": 2}  # operand 0, changed in place by this operand
_SAME_ELEMENTS = ("bitcast", "convert", "copy", "reshape", "transpose")


def hbm_bytes(module: Module) -> float:
    """HBM bytes that one chip reads and writes in one step."""
    total = 0.0
    for name, times in executions(module).items():
        computation = module.computations[name]
        total += times * sum(moved(module, computation, each) for each in computation.instructions.values())
    return total


def moved(module: Module, computation: Computation, instruction: Instruction) -> float:
    """HBM bytes of one execution of an instruction. An asynchronous one counts at its `-done`."""
    opcode, operands = instruction.opcode, computation.operands(instruction)
    if opcode in _NAMES + _CONTROL or opcode.endswith(("-start", "-update")):
        return 0
    if opcode == "custom-call" and instruction.attribute("custom_call_target") in _FREE_CALLS:
        return 0
    if opcode in ("send", "recv"):  # the result names the same memory; what is received counts at recv-done
        return sum(_in_hbm(each.arrays) for each in operands)
    if opcode == "fusion":
        return _fusion(module, instruction, operands)
    if opcode.endswith("-done"):
        start = operands[0]
        while start.opcode.endswith("-update"):
            start = computation.operands(start)[0]
        opcode = start.opcode.removesuffix("-start")
        operands = computation.operands(start) if start.opcode.endswith("-start") else []
    written = _in_hbm(instruction.arrays)
    if opcode in _PARTS:
        part = sum(array.bytes for array in instruction.arrays)
        return written + min(part, _in_hbm(operands[0].arrays)) + sum(_in_hbm(each.arrays) for each in operands[1:])
    if opcode in _UPDATES:
        update = operands[_UPDATES[opcode]]
        return min(written, update.bytes) + sum(_in_hbm(each.arrays) for each in operands[1:])
    return written + sum(_in_hbm(each.arrays) for each in dict.fromkeys(operands))


def _in_hbm(arrays: Iterable[Array]) -> float:
    return sum(array.bytes for array in arrays if array.space == HBM)


def _fusion(module: Module, fusion: Instruction, operands: list[Instruction]) -> float:
    """HBM bytes of a fusion: of every operand and result the part that its instructions touch."""
    role, fused = chain_role(module, fusion), module.called(fusion)
    assert fused  # a fusion without computation is no HLO
    if role == "done":
        return 0
    # In a chain, what is passed on (shards, the half gathered array) is no traffic of this fusion.
    passed = re.findall(r"\{(\d*)\}: \((\d+), \{\}\)", fusion.attributes) if role else []
    kept = {int(operand) for _, operand in passed} if role == "part" else set()
    total = 0.0
    for parameter in fused.instructions.values():
        if parameter.opcode == "parameter" and (number := int(parameter.inside)) not in kept:
            total += sum(
                min(array.bytes, _touched(module, fused, parameter) * array.bytes / max(array.size, 1))
                for array in operands[number].arrays
                if array.space == HBM
            )
    roots = fused.operands(fused.root) if fused.root.opcode == "tuple" else [fused.root] * len(fusion.arrays)
    for number, (array, root) in enumerate(zip(fusion.arrays, roots, strict=True)):
        if array.space == HBM and str(number) not in {result for result, _ in passed}:
            total += min(array.bytes, _changed(module, fused, root) * array.bytes / max(array.size, 1))
    return total


def _touched(module: Module, fused: Computation, source: Instruction) -> int:
    """How many elements of an instruction's result a fused computation reads, counted once per reader."""
    everything = sum(array.size for array in source.arrays)
    if source is fused.root:
        return everything
    count = 0
    for user in fused.instructions.values():
        for place in [place for place, name in enumerate(user.operands) if name == source.name]:
            if user.opcode in _PARTS and place == 0:
                count += user.arrays[0].size
            elif user.opcode in _UPDATES and place == 0:
                count += 0
            elif user.opcode in _SAME_ELEMENTS:
                count += _touched(module, fused, user)
            elif user.opcode == "fusion" and (called := module.called(user)):
                numbered = {int(p.inside): p for p in called.instructions.values() if p.opcode == "parameter"}
                count += _touched(module, called, numbered[place])
            else:
                count += everything
    return count


def _changed(module: Module, fused: Computation, result: Instruction) -> int:
    """How many elements of a result a fused computation writes."""
    if result.opcode in _UPDATES:
        return fused.operands(result)[_UPDATES[result.opcode]].arrays[0].size
    if result.opcode in _SAME_ELEMENTS:
        return _changed(module, fused, fused.operands(result)[0])
    if result.opcode == "fusion" and (called := module.called(result)) and called.root.opcode != "tuple":
        return _changed(module, called, called.root)
    return sum(array.size for array in result.arrays)
