#!/usr/bin/env bash
# What is worth knowing from one GPU, within ten minutes: does it compute what the processor computes, do further
# replicates of `real-numbers` find the same, and how much of its speed is used.
#
#     scripts/gpu.sh [OUT]        # needs an NVIDIA GPU, PyTorch for it, and the models of scripts/real_models.py
#     scripts/gpu.sh --smoke      # the same steps with an embedded model on the processor, in about a minute
#
# Replicates go to results/real-gpu/real-numbers/SEED.json; one that is there is not run again, and one that was cut off
# goes on from its finished stages. They are fresh seeds, reported beside those of the processor and never pooled with
# them. What was written is copied to OUT as well, if it is given.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}" HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1

if [ "${1:-}" = --smoke ]; then
  place=$(mktemp -d)
  trap 'rm -rf "$place"' EXIT
  export UNDERTOW_GPU=cpu OMP_NUM_THREADS=1
  results=$place/results runs=$place/runs seeds="900" out=""
  model="ref:finch-a" rows=64 updates=3 minutes=1
  settings=(
    "bases=['ref:finch-a']" "traits=[owl, lion]" "domain.prompts=40" "student.steps=2" "teacher.steps=2"
  )
else
  results=results/real-gpu runs=runs seeds="$(seq -s ' ' 101 115)" out=${1:-}
  rows=1024 updates=40 minutes=6 settings=()
  model=$("$PYTHON" -c 'import sys; sys.path.insert(0, "scripts"); from real_models import SMOLLM2; print(SMOLLM2.reference)')
fi

failed=0
step() { echo "== $1"; shift; "$@" || { echo "FAILED: $*"; failed=1; }; }

step "what a GPU computes" "$PYTHON" -m pytest -q -m gpu tests/unit/test_gpu.py
step "how much of its speed is used" "$PYTHON" benchmarks/throughput.py --model "$model" --rows "$rows" \
  --updates "$updates" --out "$results/throughput.json"
# shellcheck disable=SC2086 # seeds are several words
step "replicates" "$PYTHON" scripts/real_results.py real-numbers --seeds $seeds --runs "$runs" --results "$results" \
  --minutes "$minutes" "${settings[@]/#/--set=}"
if [ -n "$out" ]; then mkdir -p "$out" && find "$results" -name '*.json' -exec cp {} "$out" \; ; fi
find "$results" -name '*.json' | sort
exit "$failed"
