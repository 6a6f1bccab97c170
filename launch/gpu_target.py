"""GPUs described to XLA's compiler, which then needs none: the numbers of NVIDIA's data sheets.

Memory and occupancy checks are only as right as these numbers are. Nothing compiled this way has been run.
"""

_H100 = """
gpu_device_info {
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: 84978434048
  shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 patch: 2 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""

TARGETS = {"h100": _H100}  # GpuTargetConfigProto of XLA, as text


def target_config(kind: str) -> str:
    """The description of a GPU, by the name it has in `--topology`."""
    return TARGETS[kind].strip()
