"""The engine: prompts in, answers out as they finish.

Slots on the devices have fixed shapes: G prompts of up to P positions, N branches each. A prompt takes the next free
slot, its samples take turns on its branches. The host only fills slots, fetches what is finished, and watches for stop
strings.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from jax.sharding import Mesh

from rlaifv_jax import parallel
from rlaifv_jax.data.templates import Conversation
from rlaifv_jax.data.tokenizer import Tokenizer
from rlaifv_jax.errors import UserError
from rlaifv_jax.models.blueprint import Params
from rlaifv_jax.models.layers import Compute
from rlaifv_jax.ops.attention import default_backend
from rlaifv_jax.sampling.cache import CacheShape, suffix_columns
from rlaifv_jax.sampling.capacity import prompts_at_once
from rlaifv_jax.sampling.decode import Program
from rlaifv_jax.sampling.prompt import Prompt
from rlaifv_jax.sampling.queue import Queue
from rlaifv_jax.sampling.settings import CACHE_DTYPES, Rules, Sampling, check_samples
from rlaifv_jax.sampling.slots import NO_LIMIT, Slots
from rlaifv_jax.sampling.texts import Texts

GATHER = 16  # the devices come back when a 16th of the slots is free: rarely enough, and few stand idle
BETWEEN_LOOKS = 16  # steps, where the host looks for stop strings
ALL_AT_ONCE = 4  # samples; of more, half are written at a time, so that the longest do not keep the rest idle

Watch = Callable[[Any, list[int]], None]  # (tag, tokens of the running answer that cannot change any more)


@dataclass(frozen=True)
class Answer:
    """tokens: with the end token. text: without special tokens, cut at a stop string, stripped. ended: False where
    max_new_tokens cut it off."""

    tokens: tuple[int, ...]
    text: str
    ended: bool


@dataclass(frozen=True)
class Answers:
    """All samples of a prompt, or its best beams, best first. tag: the prompt's."""

    tag: Any
    answers: tuple[Answer, ...]


@dataclass
class Account:
    """What has been computed. positions: of prompts, with the padding of their slots. passes: of newest tokens through
    the decoder, those of idle branches included. tokens: of finished answers."""

    prompts: int = 0
    positions: int = 0
    passes: int = 0
    tokens: int = 0


class Engine:
    """Generates with one model.

    Args:
      model: an opened checkpoint (convert.load.StoredModel).
      params: its weights on `mesh`, in the precision to compute in, `unstack`ed.
      tokenizer: of the model. ends: ids that end an answer.
      settings: how tokens are chosen.
      template: of the conversations; it may know other ends than `ends`, and what the model says before an answer.
      samples: answers of every prompt; with beams the best of them.
      prompts: G; 0: as many as there is memory for (and, in float32, not many more than are asked for).
      branches: N, samples of a prompt that are written at once; 0: all of up to 4, else half of them.
      cache: dtype of keys and values: 'float32', 'bfloat16' or 'int8'; '': that of the weights.
      seed: of all draws.
      steady: the number of slots never depends on how many prompts there are, so a text cannot either, to the last bit.

    Raises:
      UserError: settings that do not go together.
    """

    def __init__(
        self,
        model: Any,
        params: Params,
        mesh: Mesh,
        tokenizer: Tokenizer,
        ends: tuple[int, ...],
        settings: Sampling,
        *,
        template: Conversation | None = None,
        samples: int = 1,
        prompts: int = 0,
        branches: int = 0,
        cache: str = "",
        seed: int = 0,
        steady: bool = False,
    ):
        check_samples(settings, samples, branches)
        if cache not in ("", *CACHE_DTYPES):
            raise UserError(f"cache is {cache!r}; it must be one of {', '.join(CACHE_DTYPES)}")
        beams = settings.num_beams > 1
        self.config, self.mesh, self.tokenizer = model.config, mesh, tokenizer
        self.texts = Texts(tokenizer, settings.stop)
        closing: tuple[int, ...] = ()
        if template:
            self.texts = Texts(tokenizer, (*settings.stop, *template.stop), template.lead)
            closing = template.closing(tokenizer)
        self.prompts, self.seed, self.steady = prompts, seed, steady
        self.params = params
        self.dtype = str(params["decoder"]["embedding"].dtype)
        half = samples if samples <= ALL_AT_ONCE else -(-samples // 2)
        width = settings.num_beams if beams else min(branches or half, samples)
        backend = default_backend(mesh.devices.flat[0].platform)
        self.program = Program(
            graph=model.blueprint.graph,
            decoder=model.config.decoder,
            compute=Compute(backend, backend, "none", vocab_block=4096),
            rules=Rules(settings, ends, closing),
            samples=samples,
            begin=tokenizer.bos_id,
            cache=CacheShape(0, width, beams, 0, suffix_columns(settings.max_new_tokens), cache or self.dtype),
        )
        self.account = Account()

    def generate(
        self, prompts: Iterable[Prompt], watch: Watch | None = None, every: int = BETWEEN_LOOKS
    ) -> Iterator[Answers]:
        """Answers to `prompts`, in the order in which they are finished.

        prompts is read a little ahead of what is worked on. watch: called for every running sample after `every` steps.
        """
        queue = Queue(prompts)
        while (length := queue.next_length()) is not None:
            most = self._prompts_at_once(length)
            first = queue.take(length, most)
            slots = self._slots(length, most if self.prompts else self._no_more_than(len(first), most))
            self._admit(slots, first)
            while slots.busy:
                self._advance(slots, watch, every)
                for prompt, answers in slots.finished():
                    self.account.tokens += sum(map(len, answers))
                    yield Answers(prompt.tag, tuple(self._answer(tokens) for tokens in answers))
                self._admit(slots, queue.take(length, slots.free))
            self.account.passes += slots.passes
            del slots  # its memory is that of the next

    def _prompts_at_once(self, length: int) -> int:
        unit = parallel.rows_divisor(self.mesh)
        if self.prompts:
            return -(-self.prompts // unit) * unit
        shape = replace(self.program.cache, prefix=length)
        return prompts_at_once(self.config.decoder, shape, self.mesh, self.params)

    def _no_more_than(self, asked: int, most: int) -> int:
        """Fewer slots for few prompts, unless that is excluded, and never for bfloat16, where rounding by shape is
        large enough to change an answer.

        Never a single one if there can be more: CPUs multiply one row in another order than several.
        """
        if self.steady or self.dtype != "float32":
            return most
        unit = parallel.rows_divisor(self.mesh)
        enough = max(2, 1 << (asked - 1).bit_length())  # few different numbers, few programs
        return min(most, -(-enough // unit) * unit)

    def _slots(self, length: int, count: int) -> Slots:
        program = replace(self.program, cache=replace(self.program.cache, prompts=count, prefix=length))
        return Slots(program, self.params, self.mesh, self.config.tile, self.seed)

    def _admit(self, slots: Slots, prompts: list[Prompt]) -> None:
        self.account.prompts += len(prompts)
        self.account.positions += slots.admit(prompts)

    def _advance(self, slots: Slots, watch: Watch | None, every: int) -> None:
        """Until prompts are finished; with looks in between where somebody wants to see."""
        stop = self.texts.stop
        slots.advance(max(1, len(slots.prompts) // GATHER), every if stop or watch else NO_LIMIT)
        if not (stop or watch):
            return
        for slot, branch, prompt, tokens in slots.unfinished():
            slots.stopped[slot, branch] = self.texts.stopped(tokens)
            if watch:
                watch(prompt.tag, tokens)

    def _answer(self, tokens: list[int]) -> Answer:
        rules = self.program.rules
        full = len(tokens) >= rules.settings.max_new_tokens
        ended = not full or tokens[-1] in rules.ends or self.texts.stopped(tokens)
        return Answer(tuple(tokens), self.texts.answer(tokens), ended)
