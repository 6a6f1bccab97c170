"""The transfers between chips that a compiled step makes: kind, how often, bytes received, overlapped or not.

Bytes are what one chip must receive per execution in a group of n chips, for any algorithm that is optimal in
bandwidth; `shard` and `full` are the operand before and the result after a gather:

    all-gather          (n-1) · shard = (n-1)/n · full      reduce-scatter   (n-1)/n · full
    all-reduce          2 (n-1)/n · full                    all-to-all       (n-1)/n · shard
    collective-permute  shard                               collective-broadcast   shard

Where TPUs hide them in the text:

- A reduce-scatter is a custom fusion that calls a computation `all-reduce-scatter`: an all-reduce whose result only a
  dynamic-slice at the chip's own place reads. It is recognised by these two instructions, not by its name.
- An asynchronous gather is a chain of fusions with one channel_id: the first ends in the custom call
  AsyncCollectiveStart, the last in AsyncCollectiveDone, and those between (`async_collective_fusion`) are matrix
  products that carry the transfer. All of them name the all-gather, which happens once per start.
- A windowed einsum is a loop that passes shards around with collective-permute-start and -done while it multiplies.
- Slices exchange sums through their hosts: a `recv` with is_host_transfer, here of the kind BETWEEN_SLICES. It uses the
  data-centre network, not the chip's links.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from launch.hlo import Computation, Instruction, Module
from launch.loops import executions

# Kind → bytes received by one chip for each byte of its operands, as a function of the group size n.
RECEIVED = {
    "all-gather": lambda n: n - 1,
    "all-reduce": lambda n: 2 * (n - 1) / n,
    "reduce-scatter": lambda n: (n - 1) / n,
    "all-to-all": lambda n: (n - 1) / n,
    "collective-permute": lambda n: 1,
    "collective-broadcast": lambda n: 1,
}
BETWEEN_SLICES = "between-slices"
GATHERS = ("all-gather", "collective-permute")  # permutes: windowed einsums, of weights and of weight gradients

START, DONE = "AsyncCollectiveStart", "AsyncCollectiveDone"  # custom calls at the ends of a chain of fusions

_NO_WORK = ("AllocateBuffer", "ConcatBitcast")  # custom calls that only name memory


@dataclass(frozen=True)
class Site:
    """A collective of the text. group: chips that take part together (0: the text does not say). executions: per step.
    bytes: received by one chip at each of them. asynchronous: something is computed while it is under way."""

    name: str
    kind: str
    group: int
    executions: float
    bytes: float
    asynchronous: bool

    @property
    def step_bytes(self) -> float:
        return self.executions * self.bytes


@dataclass(frozen=True)
class Totals:
    """Of one kind and step: places in the text, executions, bytes received by a chip, those of them that overlap."""

    sites: int
    executions: float
    bytes: float
    async_bytes: float


def sites(module: Module) -> list[Site]:
    """Every collective of the module once, in the order of the schedule."""
    counts = executions(module)
    steps = [(module.computations[name], times) for name, times in counts.items()]
    chains: dict[str | None, set[str]] = {}  # channel → roles of the fusions that name it
    for computation, _ in steps:
        for instruction in computation.instructions.values():
            for inner, where in _inside(module, instruction):
                chains.setdefault(inner.attribute("channel_id"), set()).add(_role(where))
    found = []
    for computation, times in steps:
        for instruction in computation.instructions.values():
            opcode = instruction.opcode
            if opcode.removesuffix("-start") in RECEIVED:
                overlaps = opcode.endswith("-start") and _overlaps(module, computation, instruction)
                found.append(_site(module, instruction, instruction, computation, times, overlaps))
            if opcode == "recv" and "is_host_transfer=true" in instruction.attributes:
                received, overlaps = instruction.arrays[0].bytes, _overlaps(module, computation, instruction)
                found.append(Site(instruction.name, BETWEEN_SLICES, 0, times, received, overlaps))
            for inner, where in _inside(module, instruction):
                roles = chains[inner.attribute("channel_id")]
                if opcode == "async-start":
                    overlaps = _overlaps(module, computation, instruction)
                elif "start" not in roles or _role(where) == "start":
                    overlaps = roles >= {"start", "part"}
                else:
                    continue  # a later fusion of the chain
                found.append(_site(module, instruction, inner, where, times, overlaps))
    return found


def by_kind(sites: Iterable[Site]) -> dict[str, Totals]:
    """Totals by kind, the largest first."""
    kinds: dict[str, list[Site]] = {}
    for site in sites:
        kinds.setdefault(site.kind, []).append(site)
    totals = {
        kind: Totals(
            sites=len(members),
            executions=sum(site.executions for site in members),
            bytes=sum(site.step_bytes for site in members),
            async_bytes=sum(site.step_bytes for site in members if site.asynchronous),
        )
        for kind, members in kinds.items()
    }
    return dict(sorted(totals.items(), key=lambda item: -item[1].bytes))


def async_gather_share(sites: Iterable[Site]) -> float | None:
    """Share of the bytes of gathers and permutes that is received while something is computed; None without any."""
    gathers = [site for site in sites if site.kind in GATHERS]
    everything = sum(site.step_bytes for site in gathers)
    return sum(site.step_bytes for site in gathers if site.asynchronous) / everything if everything else None


def group_size(attributes: str, devices: int) -> int:
    """Chips of one replica group. It is written as `{{0,1},{2,3}}`, `[2,8]<=[16]T(1,0)` (groups, size) or
    `mesh['a'=2,'b'=8] {'b'}`; none or `{}` means all."""
    mesh = re.search(r"replica_groups=(?:@\w+)?mesh\[([^\]]*)\][^{]*\{([^}]*)\}", attributes)
    if mesh:
        lengths = {axis: int(length) for axis, length in re.findall(r"'([^']+)'=(\d+)", mesh[1])}
        size = 1
        for axis, part in re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", mesh[2]):
            size *= int(part) if part else lengths[axis]
        return size
    iota = re.search(r"replica_groups=\[\d+,(\d+)\]<=", attributes)
    if iota:
        return int(iota[1])
    listed = re.search(r"replica_groups=\{\{([\d,]*)\}", attributes)
    return len(listed[1].split(",")) if listed else devices


def _inside(module: Module, instruction: Instruction) -> Iterator[tuple[Instruction, Computation]]:
    """Collectives within a fusion or an asynchronous wrapper, each with the computation it stands in."""
    called = module.called(instruction) if instruction.opcode in ("fusion", "async-start") else None
    for inner in called.instructions.values() if called else ():
        if inner.opcode in RECEIVED:
            yield inner, called  # type: ignore[misc]  # called is set where there is an inner
        yield from _inside(module, inner)


def chain_role(module: Module, fusion: Instruction) -> str | None:
    """'start', 'part' or 'done' of a transfer for a fusion that names a collective, else None."""
    return next((_role(where) for _, where in _inside(module, fusion)), None)


def _role(fused: Computation) -> str:
    """Of a fusion that names a collective, in the chain of its channel: 'start', 'done' or 'part'."""
    targets = {instruction.attribute("custom_call_target") for instruction in fused.instructions.values()}
    return "start" if START in targets else "done" if DONE in targets else "part"


def _overlaps(module: Module, computation: Computation, start: Instruction) -> bool:
    """Whether the schedule computes anything between a start and its done (which may be in the next iteration)."""
    under_way, works = {start.name}, False
    instructions = list(computation.instructions.values())
    for instruction in instructions[instructions.index(start) + 1 :]:
        if under_way & set(instruction.operands):
            if instruction.opcode.endswith("-done"):
                return works
            if instruction.opcode.endswith("-update"):
                under_way.add(instruction.name)
        works = works or _computes(module, instruction)
    return works


def _computes(module: Module, instruction: Instruction) -> bool:
    """A matrix product, a kernel, a loop, or a fusion that is more than a step of a collective."""
    if instruction.opcode == "fusion":
        return all(
            _role(where) == "part" and not _is_scatter(inner, where) for inner, where in _inside(module, instruction)
        )
    if instruction.opcode == "custom-call":
        return instruction.attribute("custom_call_target") not in _NO_WORK
    return instruction.opcode in ("convolution", "dot", "while")


def _is_scatter(inner: Instruction, fused: Computation) -> bool:
    """An all-reduce of which a fusion keeps only this chip's slice."""
    users = [user for user in fused.instructions.values() if inner.name in user.operands]
    return inner.opcode == "all-reduce" and bool(users) and all(user.opcode == "dynamic-slice" for user in users)


def _site(
    module: Module, outer: Instruction, inner: Instruction, where: Computation, times: float, asynchronous: bool
) -> Site:
    kind = inner.opcode.removesuffix("-start")
    if inner is not outer and _is_scatter(inner, where):
        kind = "reduce-scatter"
    operands = where.operands(inner)
    payload = sum(operand.bytes for operand in operands)
    if kind == "all-reduce" and inner.opcode == kind:
        payload = (payload + inner.bytes) / 2  # what is summed and what is handed out may differ in precision
    group = group_size(inner.attributes, module.devices)
    return Site(
        name=outer.name,
        kind=kind,
        group=group,
        executions=times,
        bytes=RECEIVED[kind](group) * payload,
        asynchronous=asynchronous,
    )
