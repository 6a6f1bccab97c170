"""What is done with each command of the pages: it is run in the small world, or listed with the reason why not.

A command runs in a folder where every name that the pages use lies ready (tests/docs/small.py): a hub id is a directory
of that name, `photo.jpg` a picture. So words of a command are not replaced, but for REPLACED; what SMALLER says is put
behind them where the command does not set it itself.
"""

import re
from pathlib import Path

NOT_RUN = {
    r"git clone .*": "it copies what is tested here",
    r"cd rlaifv-jax": "the tests are in it",
    r"pip install .*": "the tests run in an environment that this has made",
    r"make demo": "tests/shapes/test_demo.py runs the module; make would install everything again",
    r"gcloud .*": "it needs an account; tests/launch/cloud/test_surface.py checks the commands that we make",
    r"ssh-keygen .*|eval \"\$\(ssh-agent\)\"|ssh-add .*": "it writes into the home directory",
    r"benchmarks/gpu.sh .*": "it needs a GPU and minutes of it",
    r"python -m benchmarks\..*": "minutes of a machine that does nothing else; tests/benchmarks has small ones",
    r"python -m launch.compile .*configs/omnilmm12b.py .*": "minutes of compiling; tests/launch has it, slow",
}

# Words of the pages that cannot lie in a folder.
REPLACED = {
    "gs://my-bucket/llava15": "out/llava15",
    "http://localhost:8000/v1": "{server}",
}

TRAIN = {
    "--config.train.steps": "2",
    "--config.train.batch_pairs": "4",
    "--config.checkpoint.every": "2",
    "--config.precision.compute": "float32",
    "--config.data.workers": "0",
}
FEEDBACK = {
    "--config.policy.n": "4",
    "--config.policy.max_new_tokens": "40",
    "--config.policy.temperature": "1.0",
    # A language model without training divides nothing; what models write is tested in tests/feedback.
    "--config.divide.function": "rlaifv_jax.shapes.claims:split",
    "--config.question.function": "rlaifv_jax.shapes.claims:ask",
    "--config.score.prompt": "check.txt",
}
BY_SERVER = {key: value for key, value in FEEDBACK.items() if "function" not in key}
COMPILE = {"--config.model.path": "liuhaotian/tiny", "--config.attention.backend": "dense"}
EVAL = {"--extractor": "shapes", "--max-new-tokens": "30"}

# (what the command looks like, what is put behind it). All that fit are.
SMALLER: list[tuple[str, dict[str, str]]] = [
    (r"python -m rlaifv_jax\.(train|logprobs) ", TRAIN),
    (r"python -m rlaifv_jax\.feedback (all|question|score|pairs|best_of_n) (?!.*score\.server)", FEEDBACK),
    (r"python -m rlaifv_jax\.feedback .*score\.server", BY_SERVER),
    (r"python -m rlaifv_jax\.feedback divide .*divide\.server", BY_SERVER),
    (r"python -m rlaifv_jax\.iterate ", {"--config.questions_per_round": "2", "--config.rounds": "2"}),
    (r"python -m rlaifv_jax\.chat (?!.*--web)", {"--max-new-tokens": "8"}),
    (r"python -m rlaifv_jax\.generate ", {"--max-new-tokens": "20", "--end": "2"}),
    (r"python -m launch\.compile ", COMPILE),
    (r"python -m launch\.cloud ", {"--dry-run": ""}),
    (r"python -m eval run object_halbench ", EVAL),
    (r"python -m eval all ", {**EVAL, "--benchmarks": "object_halbench"}),
    (r"python -m eval run .*--engine transformers", {"--num-beams": "1"}),
    (r"python -m eval data .*--small-world", {"--data": "out/small"}),
    (r"python -m rlaifv_jax\.(serve|view|chat .*--web)", {"--port": "{port}"}),
    (r"python -m rlaifv_jax\.view", {"--no-browser": ""}),
]
# 1: there is something to tell, and it is told.
STATUS = {r"python -m eval data object_halbench$": 1}

# They answer until they are stopped: started, asked once by HTTP, stopped. The server of OpenAI's protocol runs where
# SIGTERM is what stops things; the others, at a terminal, by Ctrl-C.
SERVES = r"python -m rlaifv_jax\.(serve|view|chat .*--web)\b"

# What a command promises to write, below the folder it is run in; {name} is the value of --name.
PROMISED = {
    r"python -m rlaifv_jax\.train ": ["{config.output_dir}/metrics.jsonl", "{config.output_dir}/weights/*/*"],
    r"python -m rlaifv_jax\.generate ": ["{output}"],
    r"python -m rlaifv_jax\.feedback all ": [
        "{config.output_dir}/pairs/*.parquet",
        "{config.output_dir}/score/*.jsonl",
    ],
    r"python -m rlaifv_jax\.feedback divide ": ["{config.output_dir}/divide/*.jsonl"],
    r"python -m rlaifv_jax\.feedback score ": ["{config.output_dir}/score/*.jsonl"],
    r"python -m rlaifv_jax\.feedback best_of_n ": ["{config.output_dir}/best_of_n/best/*.jsonl"],
    r"python -m rlaifv_jax\.feedback agreement ": ["{output}/agreement.json", "{output}/agreement.md"],
    r"python -m eval run (?!.*data out/small)": ["{output}/scores.json", "{output}/items.jsonl", "{output}/index.html"],
    r"python -m convert (export|import) ": ["{last}/config.json"],
    r"python -m rlaifv_jax\.report out/mine$": ["out/mine/report.html"],
}
# output_dir of a config that the command does not set.
OUTPUT_DIRS = {
    "configs/llava15.py": "out/llava15",
    "configs/feedback_llava15.py": "out/feedback_llava15",
    "configs/llava15_lora.py": "out/llava15_lora",
}


def reason_not_to_run(text: str) -> str:
    """Empty for what is run."""
    return next((reason for shape, reason in NOT_RUN.items() if re.fullmatch(shape, text)), "")


def arguments(words: list[str], text: str, **given: str) -> list[str]:
    """Words behind `python -m`, with what makes the command small."""
    words = list(words[2:])
    for old, new in REPLACED.items():
        words = [word.replace(old, new) for word in words]
    more = [pair for shape, pairs in SMALLER if re.match(shape, text) for pair in pairs.items()]
    for key, value in dict(more).items():
        if not any(word == key or word.startswith(f"{key}=") for word in words):
            words += [key] if not value else [f"{key}={value}"] if key.startswith("--config") else [key, value]
    return [word.format(**given) if re.search(r"\{(server|port)\}", word) else word for word in words]


def value_of(words: list[str], key: str) -> str:
    """Of --key=value or --key value; the directory that the config writes to where the command sets none."""
    for place, word in enumerate(words):
        if word.startswith(f"--{key}="):
            return word.split("=", 1)[1]
        if word == f"--{key}":
            return words[place + 1]
    assert key == "config.output_dir", f"{words} has no --{key}"
    return OUTPUT_DIRS[value_of(words, "config")]


def promised(words: list[str], text: str) -> list[str]:
    """Globs of files."""
    found = [path for shape, paths in PROMISED.items() if re.match(shape, text) for path in paths]
    plain = [word for word in words if not word.startswith("-")]
    last = plain[3] if len(plain) > 3 else ""
    return [
        re.sub(r"\{([\w.]+)\}", lambda name: last if name[1] == "last" else value_of(words, name[1]), path)
        for path in found
    ]


def outputs(words: list[str]) -> list[Path]:
    """Files and folders that a command writes and that must not be there before."""
    plain = [word for word in words if not word.startswith("-")]
    found = [words[place + 1] for place, word in enumerate(words) if word == "--output"]
    if plain[0] == "convert" and plain[1] in ("export", "import"):
        found.append(plain[3])
    if plain[0] == "rlaifv_jax.train":
        found.append(value_of(words, "config.output_dir"))
    if plain[:2] == ["rlaifv_jax.feedback", "all"]:
        found.append(value_of(words, "config.output_dir"))
    return [Path(path) for path in found]
