"""Words and flags against the Google Cloud CLI itself, where it is installed; it checks them without an account."""

import json
import os
import shlex
import shutil
import subprocess

import pytest

from launch.cloud.places import place
from tests.launch.cloud import clouds

pytestmark = pytest.mark.skipif(shutil.which("gcloud") is None, reason="the Google Cloud CLI is not installed")


def lint(folder, commands):
    """What gcloud finds wrong with each command; None: nothing."""
    listed = folder / "commands.json"
    listed.write_text(json.dumps([{"command_string": shlex.join(words), "group": "x"} for words in commands]))
    environment = os.environ | {"CLOUDSDK_CONFIG": str(folder), "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "1"}
    line = ["gcloud", "meta", "lint-gcloud-commands", f"--commands-file={listed}"]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=120, check=False)
    if "Invalid choice" in done.stderr:
        pytest.skip("this Google Cloud CLI has no lint-gcloud-commands")
    assert done.returncode == 0, done.stderr
    return [found["error_message"] for found in json.loads(done.stdout)]


def test_every_word_is_one_that_gcloud_knows(tmp_path):
    commands = []
    for where in ("queued", "tpu_vm"):
        of = clouds.launch(
            tmp_path,
            place=where,
            spot=True,
            network__network="net",
            network__subnetwork="sub",
            network__internal_ips=True,
            service_account="me@my-project.iam.gserviceaccount.com",
        )
        at = place(of)
        commands += [at.describe(), at.create(), at.delete()]
    commands += [at.copy([tmp_path / "a", tmp_path / "b"]), at.remote("echo 'a b'; c", "all")]
    assert lint(tmp_path, commands) == [None] * len(commands)
    (wrong,) = lint(tmp_path, [[*commands[0], "--no-such-flag"]])
    assert "unrecognized arguments" in wrong
