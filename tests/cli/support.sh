# Runs one script of this folder in an empty folder of its own, under helpers that say what differed.
# Scripts see $SATURN (the executable), $SATURN_SOURCE_DIR, $SATURN_BINARY_DIR and $SATURN_TRAIN (0 or 1).
# shellcheck shell=bash

set -Eeuo pipefail
trap 'printf "%s:%s: exit code %s: %s\n" "${BASH_SOURCE[0]}" "$LINENO" "$?" "$BASH_COMMAND" >&2' ERR

# run <exit code> <command>...: runs the command with stdout and stderr in the files out and err.
run() {
  local want=$1 got=0
  shift
  "$@" >out 2>err </dev/null || got=$?
  [[ $got == "$want" ]] || broken "exit code $got, expected $want: $*" out err
}

# has <file> <text>...: the file holds each text.
has() {
  local file=$1 text
  shift
  for text in "$@"; do grep -qF -- "$text" "$file" || broken "not in $file: $text" "$file"; done
}

# lacks <file> <text>...: the file holds none of the texts.
lacks() {
  local file=$1 text
  shift
  for text in "$@"; do ! grep -qF -- "$text" "$file" || broken "in $file: $text" "$file"; done
}

# toy_batch <name>: makes text.txt, and prints the tables with which a batch of toys over it begins: two CPU slots on
# however few cores.
toy_batch() {
  local i
  for i in $(seq 400); do printf 'And God said Let there be light and there was light. %d\n' "$i"; done >text.txt
  cat <<END
[batch]
name = "$1"
[devices]
cpu_slots = 2
threads_per_slot = 1
oversubscribe = true
[data.text]
kind = "text"
path = "text.txt"
sequence_length = 32
END
}

skip() {
  printf 'skipped: %s\n' "$*"
  exit 77
}

broken() {
  printf '%s\n' "$1" >&2
  shift
  for file in "$@"; do printf -- '--- %s\n%s\n' "$file" "$(cat "$file")" >&2; done
  exit 1
}

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
# shellcheck source=/dev/null
source "$1"
