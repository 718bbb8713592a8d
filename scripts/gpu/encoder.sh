#!/usr/bin/env bash
# The larger settings of the encoder's trainings on one CUDA GPU; README.md beside this says how.
#
#     SOUK_GPU_DATA=DIR OUT=DIR scripts/gpu/encoder.sh [pretrain|finetune|finetune-pretrained|reranker|distil|measure]...
#
# Without a part it runs all of them, in this order. What is done is not done again, what ran out of time goes on.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
: "${SOUK_GPU_DATA:?must name a directory with dataset/, pairs.parquet and model/}"
: "${OUT:?must name the directory for what comes back}"
data=$(realpath "$SOUK_GPU_DATA")
out=$(realpath -m "$OUT")
cd "$here/../.."
work=$(realpath -m "${SOUK_GPU_WORK:-.souk/gpu}")
seconds=${SOUK_GPU_SECONDS:-540}
python=${PYTHON:-python3}
# Nothing is asked of a network.
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} HF_HUB_OFFLINE=1

limited() { # NAME COMMAND...: the command within its time
  local name=$1 code=0
  shift
  timeout "$seconds" "$python" "$@" || code=$?
  if [[ $code == 124 ]]; then
    echo "$name: not done after $seconds s (SOUK_GPU_SECONDS); run the same again, it goes on" >&2
  fi
  return "$code"
}

learned() { # NAME COMMAND OPTION...: one training with the settings of its name, and what comes back of it
  local name=$1 command=$2
  shift 2
  if [[ -e $work/$name ]]; then
    echo "$name: done already"
  else
    limited "$name" -m training encoder "$command" "$@" --dataset "$data/dataset" --config "$here/$command.toml" \
      ${SOUK_GPU_STEPS:+--steps "$SOUK_GPU_STEPS"} --out "$work/$name"
  fi
  mkdir -p "$out"
  local from=$work
  if [[ -f $work/$name/model.safetensors ]]; then
    from=$work/half
    [[ -e $from/$name ]] || "$python" "$here/halve.py" --model "$work/$name" --out "$from/$name"
  fi
  local facts=training
  [[ $command != reranker ]] || facts=reranker
  cp "$work/$name/$facts.json" "$out/$name.json"
  # In pieces, since what carries them may refuse large files: cat NAME.tar.gz.* | tar -xz
  rm -f "$out/$name.tar.gz".*
  tar -C "$from" -cz "$name" | split -b 15M - "$out/$name.tar.gz."
}

part() {
  case $1 in
    pretrain) learned pretrained pretrain --model "$data/model" ;;
    finetune) learned tuned finetune --model "$data/model" --pairs "$data/pairs.parquet" ;;
    finetune-pretrained)
      learned pretrained-tuned finetune --model "$work/pretrained" --pairs "$data/pairs.parquet"
      ;;
    reranker) learned reranker reranker --model "$data/model" --pairs "$data/pairs.parquet" ;;
    distil)
      local margins=()
      [[ ! -e $work/reranker ]] || margins=(--reranker "$work/reranker")
      learned student distil --model "$work/tuned" --pairs "$data/pairs.parquet" "${margins[@]}"
      ;;
    measure)
      mkdir -p "$out"
      local models=("$data/model") name
      for name in pretrained tuned pretrained-tuned student; do
        [[ ! -e $work/$name ]] || models+=("$work/$name")
      done
      limited measure "$here/measure.py" --dataset "$data/dataset" --out "$out/measures.json" "${models[@]}"
      ;;
    *)
      echo "$1: no part; known: pretrain finetune finetune-pretrained reranker distil measure" >&2
      return 2
      ;;
  esac
}

"$python" "$here/check.py"
[[ $# -gt 0 ]] || set -- pretrain finetune finetune-pretrained reranker distil measure
for one in "$@"; do part "$one"; done
