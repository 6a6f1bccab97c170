"""Settings that cannot be: of training, rounds, feedback, sampling, rented machines."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from configs import iterate_llava15, launch_llava15, llava15
from launch import topologies
from launch.cloud import accelerators
from launch.cloud.settings import read as read_launch
from launch.cloud.settings import secret_values
from rlaifv_jax import logprobs, plan, rounds
from rlaifv_jax.config_values import check_values
from rlaifv_jax.feedback.agreement import command as agreement
from rlaifv_jax.feedback.best_of_n import BestOptions
from rlaifv_jax.feedback.chain import Feedback
from rlaifv_jax.feedback.functions import load_function
from rlaifv_jax.feedback.reading import Reading
from rlaifv_jax.generate import check as check_generate
from rlaifv_jax.generate import parse_arguments as parse_generate
from rlaifv_jax.sampling import capacity
from rlaifv_jax.sampling.settings import Sampling, check_samples
from tests import world
from tests.feedback.chain import make_config as feedback_config

Case = Callable[[Path], Any]

TRAIN: dict[str, Any] = {
    "model__path": "",
    "data__path": "",
    "train__objective": "ppo",
    "dpo__loss": "best",
    "train__log_every": 0,
    "optim__lr": float("nan"),
    "optim__beta2": 1.0,
    "dpo__beta": 0.0,
    "dpo__sft_weight": float("inf"),
    "dpo__label_smoothing": 0.5,
    "data__augment_views": "fresh",
    "data__eval_fraction": 1.5,
    "lora__rank": -1,
    "precision__compute": "float16",
    "profile__steps": "10-13",
    "lora__base": "int8",
    "checkpoint__every": -1,
}
TOGETHER: list[dict[str, Any]] = [
    {"dpo__label_smoothing": 0.1, "dpo__loss": "ipo"},
    {"data__augment": "muffin", "data__image_aspect_ratio": "pad"},
    {"data__eval_fraction": 0.1, "data__eval_path": "x"},
    {"lora__rank": 4, "lora__alpha": 0.0},
    {"lora__rank": 4, "lora__dropout": 1.0},
    {"lora__rank": 4, "lora__targets": ("all",)},
    {"lora__rank": 4, "train__vision": True},
]


def train_config(changes: dict[str, Any]) -> ConfigDict:
    config = llava15.get_config()
    world.set_keys(config, changes)
    return config


def feedback(folder: Path, **changes: Any) -> Feedback:
    return Feedback(feedback_config(folder, "labeler", **changes))


FEEDBACK: list[dict[str, Any]] = [
    {"output_dir": ""},
    {"shard_answers": 0},
    {"divide__pieces": -1},
    {"question__mismatch": "guess"},
    {"pairs__balance": "best"},
    {"pairs__tolerance": 2.0},
    {"pairs__shard_rows": 0},
    {"pairs__score": "mood"},
    {"pairs__cap_by": "day"},
    {"pairs__difference": 0.0},
    {"pairs__cap": -1},
    {"score__server": "nowhere"},
    {"score__server": "http://h/v1", "score__model": ""},
    {"score__server": "http://h/v1", "score__verdict": "mood"},
    {"score__server": "http://h/v1", "score__dtype": "", "score__top_logprobs": 1},
    {"score__server": "http://h/v1", "score__dtype": "", "score__max_new_tokens": 0},
    {"score__server": "http://h/v1", "score__dtype": "float32"},
    {"divide__function": "", "divide__model": ""},
    {"divide__function": "", "divide__model": "m", "divide__slots": -1},
    {"divide__function": "", "divide__model": "m", "divide__temperature": -1.0},
    {"divide__function": "", "divide__model": "m", "divide__server": "h", "divide__retries": -1},
    {"divide__function": "split"},
    {"divide__function": "no.such:f"},
    {"divide__function": "json:__name__"},
    {"divide__prompt": "/nowhere.txt"},
    {"score__model": ""},
    {"score__image_aspect_ratio": "round"},
    {"score__longest_row": 1},
]

ROUNDS: list[dict[str, Any]] = [
    {"questions": ""},
    {"rounds": 0},
    {"keep_weights": "some"},
    {"training__train__objective": "sft"},
    {"training__reference__path": "x"},
    {"select__questions": ""},
    {"feedback__policy__n": 1},
    {"select__questions": "q", "select__max_new_tokens": 0},
    {"select__questions": "q", "feedback__pairs__cap": -1},
    {"select__questions": "q", "training__train__log_every": 0},
]

LAUNCH: list[dict[str, Any]] = [
    {"name": ""},
    {"zone": "us-west4"},
    {"place": "moon"},
    {"accelerator": ""},
    {"watch__every": 0},
    {"bucket": ""},
    {"experiment": "/etc/passwd"},
    {"overrides": ("train.steps",)},
    {"overrides": ("data.path=a\0b",)},
    {"secrets": ("A=b",)},
    {"restarts": -1},
]


def launch_config(changes: dict[str, Any]) -> Any:
    config = launch_llava15.get_config("v5e-8")
    config.zone, config.bucket = "us-west4-a", "gs://bucket/runs"
    world.set_keys(config, changes)
    return config


def rounds_config(changes: dict[str, Any]) -> Any:
    config = iterate_llava15.get_config()
    config.questions, config.select.questions = "questions.jsonl", "held_out.jsonl"
    world.set_keys(config, changes)
    return config


SAMPLING: list[dict[str, Any]] = [
    {"stop": "text"},
    {"stop": ("",)},
    {"top_k": 1.5},
    {"top_p": "x"},
    {"temperature": -1.0},
    {"top_k": -1},
    {"temperature": 1.0, "top_p": 0.0},
    {"repetition_penalty": 0.0},
    {"max_new_tokens": 0},
    {"min_new_tokens": 9, "max_new_tokens": 8},
    {"num_beams": 0},
    {"length_penalty": float("inf")},
    {"early_stopping": "soon"},
    {"top_k": 5},
]

GENERATE = [
    ["--n", "-1"],
    ["--retries", "3"],
    ["--server", "http://h/v1", "--dtype", "float32"],
    ["--server", "http://h/v1", "--best-of", "4"],
    ["--temperature", "0", "--n", "3"],
    ["--num-beams", "2", "--n", "3"],
    ["--num-beams", "2", "--branches", "2"],
]
ASKED = {"candidates": "", "questions": "q", "policy__model": "m"}
BEST = {"policy": "p", "reference": "r", "by": "reward", "n": 0}


def cases() -> dict[str, Case]:
    found: dict[str, Case] = {}
    for key, value in TRAIN.items():
        found[f"train {key}={value}"] = lambda _, c={key: value}: plan_of(train_config(c))
    for changes in TOGETHER:
        found[f"train {changes}"] = lambda _, c=changes: check_values(train_config(c))
    for changes in FEEDBACK:
        found[f"feedback {changes}"] = lambda folder, c=changes: feedback(folder, **c).check()
    for changes in ROUNDS:
        found[f"rounds {changes}"] = lambda _, c=changes: rounds.check(rounds_config(c))
    for changes in LAUNCH:
        found[f"launch {changes}"] = lambda _, c=changes: read_launch(launch_config(c))
    for changes in SAMPLING:
        found[f"sampling {changes}"] = lambda _, c=changes: Sampling(**c)
    for words in GENERATE:
        given = ["--model", "m", "--questions", "q", "--output", "o", *words]
        found[f"generate {words}"] = lambda _, g=given: check_generate(parse_generate(g))
    for name, value in (("by", "mood"), ("reference", ""), ("n", -1)):
        reading = _reading()
        found[f"best_of_n {name}"] = lambda _, o={**BEST, name: value}, r=reading: BestOptions(**o, reading=r)
    return found | {
        "train.steps and epochs": lambda _: plan.make_plan(train_config({"train__steps": 0, "train__epochs": 0.0}), 9),
        "checkpoint.every": lambda _: plan.make_plan(train_config({"checkpoint__every": 0}), 9),
        "logprobs of sft": lambda _: logprobs.logprobs(train_config({"train__objective": "sft"})),
        "logprobs without": lambda _: logprobs.logprobs(train_config({"dpo__reference_free": True})),
        "samples": lambda _: check_samples(Sampling(), 3, 0),
        "slots": lambda _: capacity.slot_length(10**6),
        "chips": lambda _: accelerators.find("v9-8"),
        "size of a slice": lambda _: accelerators.find("v5e-3"),
        "topology": lambda _: topologies.check("v9:2x2"),
        "secret": lambda _: secret_values(read_launch(launch_config({"secrets": ("NO_SUCH_TOKEN",)}))),
        "agreement both": lambda _: agree("A", "B", "--truth", "t", "--against", "1"),
        "agreement place": lambda _: agree("A", "B", "--against", "7"),
        "agreement bins": lambda _: agree("A", "B", "--bins", "0"),
        "agreement one": lambda _: agree("A"),
        "policy's pictures": lambda folder: feedback(folder, policy__image_aspect_ratio="round", **ASKED).check(),
        "policy's temperature": lambda folder: feedback(folder, policy__temperature=-1.0, **ASKED).check(),
        "function": lambda _: load_function("a", "select.function"),
    }


def _reading() -> Reading:
    config = feedback_config(Path("x"))
    return Reading(**{name: config.best_of_n[name] for name in Reading.__dataclass_fields__})


def plan_of(config: ConfigDict) -> Any:
    check_values(config)
    return plan.make_plan(config, 9)


def agree(*words: str) -> None:
    agreement.command(agreement.parse_arguments([*words, "--output", "o"]))
