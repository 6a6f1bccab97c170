"""What `rlaifv_jax.iterate` is going to do, and about what it costs: sizes by formula, lengths as published.

An answer is taken to have 75 tokens and ten claims, a prompt 60 tokens beside the image, a question about a claim 20,
and 1.34 pairs come out of a question (5,342 of 4,000 in the published rounds). Operations are those of
rlaifv_jax.flops. Hours are given where the peak of the devices is known, and assume that products with long rows reach
40 % of it and the writing of answers, which waits for memory, 5 %.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax

from rlaifv_jax import flops, published
from rlaifv_jax.data.questions import Questions
from rlaifv_jax.errors import UserError
from rlaifv_jax.job import trained_parts
from rlaifv_jax.models.families import parse_text
from rlaifv_jax.places import place
from rlaifv_jax.rounds import State

PROMPT, ANSWER, CLAIMS, CLAIM, PAIRS = 60, 75, 10, 20, 1.34
PAIR = [ANSWER, ANSWER], 2 * ANSWER  # branches and targets
SPLIT, ASK = (200, 120), (300, 150)  # tokens that the language models read and write
READING, WRITING = 0.40, 0.05  # share of the devices' peak that is assumed
LLAVA_7B = published.sizes_of("liuhaotian/llava-v1.5-7b")[1]  # type: ignore[index]  # is known
LLAMA_8B = parse_text(published.LLAMA3_8B, "Llama-3-8B")


@dataclass(frozen=True)
class Line:
    """A step of a round: what it does, and its operations while reading (long rows) and writing (token by token)."""

    step: str
    what: str
    reading: float
    writing: float


def plan(config: Any, state: State) -> str:
    """The plan as text. Raises `UserError` where the questions do not suffice."""
    total = len(Questions(config.questions))
    asked = config.questions_per_round or total
    if config.questions_per_round * config.rounds > total:
        raise UserError(
            f"{config.rounds} rounds of {asked} questions need {asked * config.rounds}, and {config.questions} has "
            f"{total}: fewer a round, or --config.questions_per_round=0 to ask all of them each time"
        )
    each = _steps(config, asked)
    reading, writing = (sum(getattr(line, kind) for line in each) for kind in ("reading", "writing"))
    lines = [f"{config.rounds} rounds in {state.output}, each about {_peta(reading + writing)}:"]
    width = max(len(line.what) for line in each)
    lines += [f"  {x.step:<11}{x.what:<{width}}  {_peta(x.reading + x.writing):>12}" for x in each]
    for number in range(1, config.rounds + 1):
        start = config.model.path if number == 1 else f"the best checkpoint of round {number - 1}"
        lines.append(f"round {number}, from {start}{_done(state, number)}")
    left = config.rounds - sum("chosen" in account for account in state.rounds[: config.rounds])
    cost = f"left: about {_peta(left * (reading + writing))}{_hours(left * reading, left * writing)}"
    return "\n".join([*lines, cost if left else "nothing is left to do"])


def _done(state: State, number: int) -> str:
    account = state.rounds[number - 1] if number <= len(state.rounds) else {}
    taken = sum(account.get("seconds", {}).values())
    if "chosen" in account:
        return f": done in {taken:,.0f} s, step {account['chosen']} was chosen"
    return f": begun, {taken:,.0f} s so far" if taken else ""


def _peta(operations: float) -> str:
    return f"{operations / 1e15:,.3g} PFLOP"


def _hours(reading: float, writing: float) -> str:
    device = jax.devices()[0].device_kind
    peak = flops.PEAK_FLOPS.get(device)
    if peak is None:
        return f"; nothing is known of the peak of {device}"
    hours = (reading / READING + writing / WRITING) / (peak * jax.device_count()) / 3600
    return f", about {hours:,.1f} hours on {jax.device_count()} × {device} (a rough estimate, no measurement)"


def _steps(config: Any, asked: int) -> list[Line]:
    feedback, training = config.feedback, config.training
    policy, labeler = _sizes(config.model.path, LLAVA_7B), _sizes(feedback.score.model, LLAVA_7B)
    n, answers, pairs = feedback.policy.n, asked * feedback.policy.n, round(asked * PAIRS)
    claims = answers * CLAIMS
    judging = [
        Line("feedback", f"claims of {answers:,} answers {_by(feedback.divide)}", *_text(feedback.divide, *SPLIT)),
        Line(
            "feedback", f"questions about {claims:,} claims {_by(feedback.question)}", *_text(feedback.question, *ASK)
        ),
        Line(
            "feedback",
            f"{claims:,} claims scored {_by(feedback.score)}",
            0.0 if feedback.score.server else _read(labeler, PROMPT // 2, [CLAIM] * (n * CLAIMS), n * CLAIMS) / n,
            0.0,
        ),
    ]
    epochs = training.train.epochs
    if training.train.steps:
        epochs = training.train.steps * training.train.batch_pairs / max(pairs, 1)
    every = training.checkpoint.every
    steps = round(epochs * pairs / training.train.batch_pairs)
    checkpoints = max(1, round(epochs / every) if every < 1 else steps // int(every))
    measured = len(Questions(config.select.questions)) if config.select.questions else 0
    one = [_write(policy, PROMPT, 1, ANSWER), *(line.writing for line in judging)]
    looked = [_read(policy, PROMPT), *(line.reading for line in judging)]
    return [
        Line(
            "candidates",
            f"{asked:,} questions × {n} answers at temperature {feedback.policy.temperature}",
            asked * _read(policy, PROMPT),
            asked * _write(policy, PROMPT, n, ANSWER),
        ),
        *(replace(line, reading=answers * line.reading, writing=answers * line.writing) for line in judging),
        Line("feedback", f"pairs: about {pairs:,}, {feedback.pairs.cap} an {feedback.pairs.cap_by} at most", 0.0, 0.0),
        Line(
            "train",
            f"reference log-probs, DPO: {epochs:.3g} epochs, {steps:,} steps of {training.train.batch_pairs} pairs",
            pairs * (_read(policy, PROMPT, *PAIR) + epochs * _train(policy, training)),
            0.0,
        ),
        Line(
            "measure",
            f"about {checkpoints} checkpoints by {config.select.function}"
            + (f", {measured:,} questions each" if measured else ""),
            checkpoints * measured * sum(looked),
            checkpoints * measured * sum(one),
        ),
    ]


def _by(section: Any) -> str:
    if section.get("function"):
        return f"by {section.function}"
    return f"by {section.model}" + (f" at {section.server}" if section.server else "")


def _text(section: Any, reads: int, writes: int) -> tuple[float, float]:
    """Operations of a language model here on one answer; none of a function or a server."""
    if section.function or section.server:
        return 0.0, 0.0
    sizes = _sizes(section.model, LLAMA_8B)
    return _read(sizes, reads), _write(sizes, reads, 1, writes)


def _sizes(path: str, otherwise: Any) -> Any:
    """The config of a model that is published or here; `otherwise` where nothing is known of it yet."""
    if known := published.sizes_of(path):
        return known[1]
    if not place(path).is_dir():
        return otherwise
    from convert.load import open_model

    return open_model(path).config


def _read(sizes: Any, prompt: int, branches: list[int] | None = None, targets: int = 0) -> float:
    """Operations on one prefix with its branches, image included."""
    picture = published.picture(sizes)
    positions, tiles = (picture.positions, picture.tiles) if picture else (0, 0)
    text = flops.decoder_flops(sizes.decoder, [positions + prompt], [branches or [0]], [targets])
    return float(text[0]) + tiles * flops.image_flops(sizes)


def _train(sizes: Any, training: Any) -> float:
    """Operations of an update on one pair."""
    branches, targets = PAIR
    picture = published.picture(sizes)
    prefix, tiles = [PROMPT + (picture.positions if picture else 0)], [picture.tiles if picture else 0]
    return float(flops.row_flops(sizes, prefix, [branches], [targets], tiles, trained_parts(training))[0])


def _write(sizes: Any, prompt: int, answers: int, length: int) -> float:
    """Operations on the tokens of answers, one by one."""
    return _read(sizes, prompt, [length] * answers, answers * length) - _read(sizes, prompt)
