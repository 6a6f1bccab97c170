"""Every key of a launcher config: which machines, and what to run there. See docs/cloud.md."""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.name = ""  # of the machines and of the run, e.g. "llava15-large"

    # Where it runs. 'queued': a queued resource, which waits for a pod slice and is made again after a preemption.
    # 'tpu_vm': a TPU VM or slice at once or not at all. 'gke': a JobSet. 'host': a machine with GPUs, over ssh.
    config.place = "queued"
    config.accelerator = ""  # v5e-16, v6e-8, v5p-32, v4-32, …: Google's names, or v5e-N for v5litepod-N
    config.spot = False  # cheaper, and may be taken away at any moment
    config.project = ""  # empty: gcloud's own
    config.zone = ""  # that has such chips, e.g. us-west4-a; for 'queued' and 'tpu_vm'
    config.runtime = ""  # TPU software version; empty: the one for JAX on this generation
    config.network = ConfigDict({"network": "", "subnetwork": "", "internal_ips": False})  # empty: the default one
    config.service_account = ""  # its rights are those of the workers; of 'gke': a Kubernetes service account
    config.create_flags = ()  # more words for gcloud's create, e.g. ("--reserved",)
    config.host = ""  # of 'host': user@machine, or a name in ~/.ssh/config
    config.namespace = "default"  # of 'gke'

    # What to run, on every worker: python -m MODULE --config=EXPERIMENT --config.OVERRIDE … ARGUMENT …
    config.module = "rlaifv_jax.train"  # or rlaifv_jax.iterate, …
    config.experiment = ""  # a config in configs/ of this checkout, e.g. "configs/llava15_large.py:16"
    config.overrides = ()  # ("train.steps=100", "data.path=gs://bucket/pairs.parquet")
    config.bucket = ""  # gs://bucket/folder: output_dir is BUCKET/NAME, where checkpoints survive the machines
    config.arguments = ()  # whatever else: a stage ("all",), or the flags of rlaifv_jax.generate
    config.environment = ()  # ("HF_HUB_OFFLINE=1",)
    config.secrets = ()  # names of variables, e.g. ("HF_TOKEN",): values are those of your environment, never shown

    # How it is installed: this checkout into an environment of its own, or an image that holds everything
    # (launch/cloud/Dockerfile).
    config.image = ""
    config.python = "3.12"  # of the environment
    config.staging = "out/launch"  # local folder for what is copied to the workers

    # A command that breaks off is started again on its worker, after a pause that doubles, unless it has exited with
    # status 2 (a mistake). A run of `steady` seconds sets the count back.
    config.restarts = 10
    config.pause = ConfigDict({"first": 10, "most": 300, "steady": 600})  # seconds
    config.grace = 120  # seconds that it has to save after SIGTERM

    # `watch` looks every `every` seconds. What fails (no capacity, no connection) is tried again after a pause that
    # doubles up to `most` seconds, `attempts` times in a row.
    config.watch = ConfigDict({"every": 60.0, "most": 1800.0, "attempts": 30})
    config.watch.delete = False  # give the machines back once the command has ended well
    return config.lock()
