#!/usr/bin/env bash
# run.sh PYTHON SCRIPT...: runs a parity script, or says why it cannot (exit 77, which CTest counts as skipped).

set -euo pipefail
python=$1
shift
if [[ ! -x $python ]]; then
  echo "skipped: there is no $python; tools/setup --test makes it"
  exit 77
fi
if ! why=$("$python" -c 'import torch, transformers, timm, torchvision, safetensors, numpy, peft' 2>&1); then
  echo "skipped: ${why##*$'\n'}; tools/setup --test installs what is missing"
  exit 77
fi
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error OMP_NUM_THREADS=1
exec "$python" "$@"
