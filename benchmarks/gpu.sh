#!/usr/bin/env bash
# What is measured on one big GPU (an H200 with 141 GB, or another with as much), results in OUT/*.json.
#
#     benchmarks/gpu.sh [OUT [PART…]]      OUT: gpu; PART: check, step, lora, kernels, generate, demo; default all
#
# ONLY=regex runs those whose name matches; LIMIT=seconds stops one that takes longer.
# Needs: pip install -e ".[cuda,bench]", in which PyTorch is a CUDA build, and pytest and hypothesis for `check`.
# About 20 minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-gpu}
mkdir -p "$out"
shift || true
parts=${*:-check step lora kernels generate demo}
# The 7B step with its float32 moments takes 105 GiB: more than the three quarters that JAX asks for by default.
export JAX_PLATFORMS=cuda,cpu XLA_PYTHON_CLIENT_PREALLOCATE=false XLA_PYTHON_CLIENT_MEM_FRACTION=0.95

run() {  # name, then a module with its options; goes on where one of them fails
    local name=$1
    shift
    [[ $name =~ ${ONLY:-.} ]] || return 0
    echo "== $name"
    timeout "${LIMIT:-1200}" python3 -m "$@" > "$out/$name.log" 2>&1 || echo "failed, see $out/$name.log"
}

measure() {  # as run, and the numbers go to a file
    run "$@" --json "$out/$1.json"
}

# Kernels on the card itself against the dense reference, values and gradients; in full float32 where it is float32.
check() {
    XLA_FLAGS='' JAX_DEFAULT_MATMUL_PRECISION=highest run check pytest -q -p no:cacheprovider \
        tests/ops/test_backends.py tests/ops/test_cached.py tests/ops/test_logprob.py -k "not mesh and not tpu"
}

# The 7B shape. Ours in the trainer's precisions, with two ways to fill rows and two to save memory.
step() {
    measure step_ours benchmarks.gpu_step --contender ours
    measure step_completion benchmarks.gpu_step --contender completion_only
    measure step_ours_cudnn benchmarks.gpu_step --contender ours --tower-backend cudnn
    measure step_ours_packed benchmarks.gpu_step --contender ours --per-row 2
    measure step_original benchmarks.gpu_step --contender original
    measure step_ours_dots benchmarks.gpu_step --contender ours --remat dots
    measure step_ours_dense benchmarks.gpu_step --contender ours --backend dense
    measure step_completion_nr benchmarks.gpu_step --contender completion_only --no-remat
}

# The same step with adapters of rank 64 beside a bfloat16 or int8 decoder, which fits 80 GB.
lora() {
    measure lora_ours benchmarks.gpu_step --contender ours --lora 64
    measure lora_completion benchmarks.gpu_step --contender completion_only --lora 64
    measure lora_ours_int8 benchmarks.gpu_step --contender ours --lora 64 --base int8
    measure lora_ours_dots benchmarks.gpu_step --contender ours --lora 64 --remat dots
    measure lora_completion_nr benchmarks.gpu_step --contender completion_only --lora 64 --no-remat
    measure lora_original benchmarks.gpu_step --contender original --lora 64
}

# Kernels at 7B sizes: heads of 128, and rows of two lengths.
kernels() {
    local heads="--heads 32 --width 128 --dtype bfloat16 --backends flash_gpu dense"
    measure attention benchmarks.attention $heads
    measure attention_long benchmarks.attention $heads --prefix 1700
    measure logprob benchmarks.logprob --width 4096 --dtype bfloat16
    measure logprob_whole benchmarks.logprob --width 4096 --dtype bfloat16 --vocab-block 32000
}

# Ten candidates to one question and one to eight, against transformers on the same card.
generate() {
    measure generate benchmarks.generate --size 7b --dtype bfloat16
    measure generate_int8 benchmarks.generate --size 7b --dtype bfloat16 --cache int8
}

# The whole loop: generation, feedback, training, two rounds.
demo() {
    run demo rlaifv_jax.shapes.demo --output "$out/demo"
}

nvidia-smi > "$out/nvidia-smi.txt"
for part in $parts; do
    "$part"
done
echo "results in $out"
