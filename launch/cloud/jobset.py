"""A JobSet for GKE: one pod on every host of a slice, all of them started again together when one breaks off.

Needs the JobSet controller (0.6 or later, for failurePolicy.rules) and a node pool of the slice's shape, or node
auto-provisioning. Sources: cloud.google.com/kubernetes-engine/docs/how-to/tpus and jobset.sigs.k8s.io.
"""

from typing import Any

import yaml

from launch.cloud.settings import Launch

WRAPPER = "launch/cloud/worker/once.sh"  # in the image, whose working directory is the checkout
MISTAKE = 2  # exit status that no restart can mend


def manifest(launch: Launch) -> str:
    """YAML for `kubectl apply -f -`. Secrets come from a Kubernetes secret of the run's name, keyed by variable."""
    return yaml.safe_dump(jobset(launch), sort_keys=False, width=120)


def jobset(launch: Launch) -> dict[str, Any]:
    assert launch.accelerator
    slice_ = launch.accelerator
    selector = {
        "cloud.google.com/gke-tpu-accelerator": slice_.label,
        "cloud.google.com/gke-tpu-topology": slice_.topology,
    }
    tolerations = [{"key": "google.com/tpu", "operator": "Exists", "effect": "NoSchedule"}]
    if launch.spot:
        selector["cloud.google.com/gke-spot"] = "true"
        tolerations.append({"key": "cloud.google.com/gke-spot", "operator": "Exists", "effect": "NoSchedule"})
    chips = {"google.com/tpu": slice_.chips_of_a_host}
    container = {
        "name": "run",
        "image": launch.image,
        "command": ["bash", WRAPPER],
        "args": [_literal(word) for word in ("python", *launch.command)],
        "env": _environment(launch),
        "resources": {"requests": chips, "limits": chips},
        "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}],
    }
    pod: dict[str, Any] = {
        "restartPolicy": "Never",  # the whole set starts again, not one pod of it
        "terminationGracePeriodSeconds": launch.grace,  # from SIGTERM on; once.sh passes that on at once
        "nodeSelector": selector,
        "tolerations": tolerations,
        "containers": [container],
        "volumes": [{"name": "shm", "emptyDir": {"medium": "Memory"}}],  # data workers hand over pictures there
    }
    if launch.service_account:
        pod["serviceAccountName"] = launch.service_account
    job = {
        "parallelism": slice_.hosts,
        "completions": slice_.hosts,
        "completionMode": "Indexed",
        "backoffLimit": 0,
        "podFailurePolicy": {
            "rules": [
                {
                    "action": "FailJob",
                    "onExitCodes": {"containerName": "run", "operator": "In", "values": [MISTAKE]},
                }
            ]
        },
        "template": {"spec": pod},
    }
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {
            "name": launch.name,
            "namespace": launch.namespace,
            # a slice is one node pool
            "annotations": {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"},
        },
        "spec": {
            "network": {"enableDNSHostnames": True},
            "successPolicy": {"operator": "All"},
            "failurePolicy": {
                "maxRestarts": launch.restarts,
                "rules": [{"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}],
            },
            "replicatedJobs": [{"name": "slice", "replicas": 1, "template": {"spec": job}}],
        },
    }


def _environment(launch: Launch) -> list[dict[str, Any]]:
    plain = [{"name": name, "value": _literal(value)} for name, value in launch.environment]
    secret = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": launch.name, "key": name}}} for name in launch.secrets
    ]
    return [*plain, *secret]


def _literal(text: str) -> str:
    """Kubernetes replaces $(NAME) in these texts, and takes $$ for $."""
    return text.replace("$", "$$")
