"""A gcloud that rents nothing: it records its words, plays states from a file, and has workers that are directories.

Installed as `gcloud`, `ssh` and `scp` in front of PATH; everything is under $STUB:

    calls      a JSON list of words for each call        errors   what the next creates complain of, a line each
    states     what the next describes say, a line each  workers/N/  homes; ssh runs its command there
    now        what describe says after that             silent   while it exists, ssh gets no answer
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

STUB = Path(os.environ["STUB"])
HOSTS = int(os.environ["STUB_HOSTS"])


def read(name: str, default: str = "") -> str:
    return (STUB / name).read_text().strip() if (STUB / name).exists() else default


def pop(name: str) -> str:
    lines = read(name).splitlines()
    if not lines:
        return ""
    (STUB / name).write_text("\n".join(lines[1:]))
    return lines[0]


def fail(text: str, status: int = 1) -> None:
    print(text, file=sys.stderr)
    sys.exit(status)


def homes() -> list[Path]:
    return [STUB / "workers" / str(number) for number in range(HOSTS)]


def vanish() -> None:
    """As a preemption: no signal that can be heard, nothing left."""
    for home in homes():
        for file in home.glob("rlaifv/*/pid"):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(file.read_text()), signal.SIGKILL)
        shutil.rmtree(home, ignore_errors=True)


def describe(queued: bool) -> None:
    word = pop("states") or read("now", "absent")
    (STUB / "now").write_text(word)
    if word in ("absent", "SUSPENDED", "PREEMPTED", "FAILED"):
        vanish()
    if word == "absent":
        fail("ERROR: (gcloud.compute.tpus.describe) NOT_FOUND: Resource 'projects/p/…' was not found")
    if not queued:
        print(json.dumps({"state": word, "acceleratorType": os.environ.get("STUB_TYPE", "")}))
        return
    failed = {"failedData": {"error": {"code": 8, "message": "no more capacity"}}} if word == "FAILED" else {}
    node = {"node": {"acceleratorType": os.environ.get("STUB_TYPE", "")}}
    print(json.dumps({"state": {"state": word, **failed}, "tpu": {"nodeSpec": [node]}}))


def copy(files: list[str]) -> None:
    for home in homes():
        home.mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copy(file, home)


def remote(command: str, worker: str) -> None:
    if (STUB / "silent").exists():
        fail("ERROR: ssh: connect to host 10.0.0.1 port 22: Connection timed out", 255)
    status = 0
    for number, home in enumerate(homes()):
        if worker in ("all", str(number)):
            home.mkdir(parents=True, exist_ok=True)
            environment = os.environ | {"HOME": str(home), "WORKER": str(number)}
            status = (
                subprocess.run(["bash", "-c", command], cwd=home, env=environment, check=False).returncode or status
            )
    sys.exit(status)


def gcloud(words: list[str]) -> None:
    group, verb = words[2], words[3]
    value = {word.split("=", 1)[0]: word.split("=", 1)[1] for word in words if "=" in word}
    queued = group == "queued-resources"
    match verb:
        case "describe":
            describe(queued)
        case "create":
            if complaint := pop("errors"):
                fail(complaint)
            (STUB / "now").write_text("ACTIVE" if queued else "READY")
        case "delete":
            vanish()
            if read("now", "absent") == "absent":
                fail("ERROR: NOT_FOUND: it was not found")
            (STUB / "now").write_text("absent")
        case "scp":
            copy([word for word in words[4:] if not word.startswith("-") and not word.endswith(":")])
        case "ssh":
            remote(value["--command"], value["--worker"])


def main() -> None:
    name, words = Path(sys.argv[0]).name, sys.argv[1:]
    with (STUB / "calls").open("a") as file:
        file.write(json.dumps([name, *words]) + "\n")
    if name == "gcloud":
        gcloud(words)
    elif name == "scp":
        copy([word for word in words if word.startswith("/")])
    else:
        remote(words[-1], "all")


main()
