#!/usr/bin/env bash
# Everything that is measured on one big GPU (an H200 with 141 GB, or another with as much), results in gpu/*.json.
# Needs: pip install -e ".[cuda,bench]", in which PyTorch is a CUDA build. About 20 minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-gpu}
mkdir -p "$out"
export JAX_PLATFORMS=cuda,cpu XLA_PYTHON_CLIENT_PREALLOCATE=false

run() {  # name, then a module with its options; goes on where one of them fails
    local name=$1
    shift
    echo "== $name"
    python -m "$@" --json "$out/$name.json" > "$out/$name.log" 2>&1 || echo "failed, see $out/$name.log"
}

nvidia-smi > "$out/nvidia-smi.txt"

# The 7B shape. Ours in the trainer's precisions, with two ways to fill rows and two to save memory.
run step_ours          benchmarks.gpu_step --contender ours
run step_ours_packed   benchmarks.gpu_step --contender ours --per-row 2
run step_ours_cudnn    benchmarks.gpu_step --contender ours --tower-backend cudnn
run step_ours_dots     benchmarks.gpu_step --contender ours --remat dots
run step_ours_dense    benchmarks.gpu_step --contender ours --backend dense
run step_original      benchmarks.gpu_step --contender original
run step_completion    benchmarks.gpu_step --contender completion_only
run step_completion_nr benchmarks.gpu_step --contender completion_only --no-remat

# Kernels at 7B sizes: heads of 128, and rows of two lengths.
run attention       benchmarks.attention --heads 32 --width 128 --dtype bfloat16 --backends flash_gpu dense
run attention_long  benchmarks.attention --heads 32 --width 128 --dtype bfloat16 --prefix 1700 --backends flash_gpu dense
run logprob         benchmarks.logprob --width 4096 --dtype bfloat16
run logprob_whole   benchmarks.logprob --width 4096 --dtype bfloat16 --vocab-block 32000
# Generation at 7B sizes: ten candidates to one question and to eight, against transformers on the same card.
run generate        benchmarks.generate --size 7b --dtype bfloat16
run generate_int8   benchmarks.generate --size 7b --dtype bfloat16 --cache int8
echo "results in $out"
