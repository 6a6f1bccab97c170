"""The manifest for GKE, as a cluster would read it."""

import subprocess
import sys

import pytest
import yaml

from launch.cloud import stage
from launch.cloud.jobset import manifest
from tests import world
from tests.launch.cloud import clouds

IMAGE = "us-docker.pkg.dev/my-project/images/rlaifv-jax:1"


def rendered(folder, **settings):
    return yaml.safe_load(manifest(clouds.launch(folder, place="gke", image=IMAGE, **settings)))


def job(found):
    (only,) = found["spec"]["replicatedJobs"]
    assert only["replicas"] == 1
    return only["template"]["spec"]


def pod(found):
    return job(found)["template"]["spec"]


@pytest.mark.parametrize(
    ("name", "label", "topology", "hosts", "chips"),
    [
        ("v4-32", "tpu-v4-podslice", "2x2x4", 4, 4),
        ("v5e-16", "tpu-v5-lite-podslice", "4x4", 4, 4),
        ("v5e-8", "tpu-v5-lite-podslice", "2x4", 1, 8),
        ("v5p-16", "tpu-v5p-slice", "2x2x2", 2, 4),
        ("v6e-16", "tpu-v6e-slice", "4x4", 4, 4),
    ],
)
def test_a_pod_on_every_host_of_the_slice(tmp_path, name, label, topology, hosts, chips):
    found = rendered(tmp_path, accelerator=name)
    assert (found["apiVersion"], found["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert (job(found)["parallelism"], job(found)["completions"]) == (hosts, hosts)
    assert job(found)["completionMode"] == "Indexed"
    assert pod(found)["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": label,
        "cloud.google.com/gke-tpu-topology": topology,
    }
    (container,) = pod(found)["containers"]
    assert container["image"] == IMAGE
    assert container["resources"] == {"requests": {"google.com/tpu": chips}, "limits": {"google.com/tpu": chips}}


def test_all_pods_start_again_together_but_not_after_a_mistake(tmp_path):
    found = rendered(tmp_path, restarts=7, grace=90)
    assert job(found)["backoffLimit"] == 0
    assert pod(found)["restartPolicy"] == "Never"
    assert pod(found)["terminationGracePeriodSeconds"] == 90
    (rule,) = job(found)["podFailurePolicy"]["rules"]
    (container,) = pod(found)["containers"]
    assert rule == {
        "action": "FailJob",
        "onExitCodes": {"containerName": container["name"], "operator": "In", "values": [2]},
    }
    assert found["spec"]["failurePolicy"] == {
        "maxRestarts": 7,
        "rules": [{"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}],
    }


def test_spot_nodes_are_asked_for_and_tolerated(tmp_path):
    spot, demand = (pod(rendered(tmp_path, spot=spot)) for spot in (True, False))
    assert spot["nodeSelector"]["cloud.google.com/gke-spot"] == "true"
    assert "cloud.google.com/gke-spot" in {toleration["key"] for toleration in spot["tolerations"]}
    assert "cloud.google.com/gke-spot" not in str(demand)


def test_the_command_arrives_as_it_is(tmp_path):
    hostile = ("data.path=$(HOSTNAME) $HOME", "seed='1'; rm -rf /", "train.steps=two\nlines: {a: b}")
    found = rendered(tmp_path, overrides=hostile, environment=("A=$(B) c",))
    (container,) = pod(found)["containers"]
    assert container["command"] == ["bash", "launch/cloud/worker/once.sh"]
    assert (clouds.HERE.parents[2] / container["command"][1]).is_file()
    expected = clouds.launch(tmp_path, place="gke", image=IMAGE, overrides=hostile).command
    # Kubernetes replaces $(NAME) and takes $$ for $.
    assert "$(" not in "".join(container["args"]).replace("$$", "")
    assert [word.replace("$$", "$") for word in container["args"]] == ["python", *expected]
    assert container["env"] == [{"name": "A", "value": "$$(B) c"}]


def test_secrets_are_named_and_not_held(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_abc")
    found = rendered(tmp_path, secrets=("HF_TOKEN",), service_account="trainer", namespace="ml")
    (container,) = pod(found)["containers"]
    assert container["env"] == [
        {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "tiny", "key": "HF_TOKEN"}}}
    ]
    assert "hf_abc" not in str(found)
    assert pod(found)["serviceAccountName"] == "trainer"
    assert found["metadata"]["namespace"] == "ml"


def test_the_image_holds_what_the_workers_get_otherwise():
    dockerfile = (stage.WORKER.parent / "Dockerfile").read_text()
    for name in (*stage.PACKAGES, *stage.FILES):
        assert name in dockerfile


def test_the_command_prints_it():
    settings = ["--config.place=gke", f"--config.image={IMAGE}", "--config.bucket=gs://bucket/runs"]
    line = [sys.executable, "-m", "launch.cloud", "manifest", "--config=configs/launch_llava15.py:v6e-8", *settings]
    done = subprocess.run(line, cwd=world.ROOT, env=world.environment(), capture_output=True, text=True, check=True)
    found = yaml.safe_load(done.stdout)
    assert found["metadata"]["name"] == "llava15-v6e-8"
    assert pod(found)["containers"][0]["args"][3] == "--config=configs/llava15.py"
