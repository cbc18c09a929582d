# shellcheck shell=bash
# What tools/setup, tools/demo and tools/test share: messages, the dependency cache, and the build. Sourced by bash.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
program=tools/${0##*/}
readonly root program

# A fault in the form of every Saturn message: what is wrong, what was expected, how to mend it.
fail() {
  printf '%s: error: %s\n  expected: %s\n  fix: %s\n' "$program" "$1" "$2" "$3" >&2
  exit 2
}

say() { printf '%s: %s\n' "$program" "$*" >&2; }

# phase <name> <command>...: runs one phase and says how long it took.
phase() {
  local name=$1 start=$SECONDS
  shift
  say "$name ..."
  "$@"
  say "$name: $((SECONDS - start)) s"
}

# The dependency cache, absolute: $SATURN_DEPS, else ~/.cache/saturn.
dependency_cache() {
  local folder=${SATURN_DEPS:-}
  if [[ -z $folder ]]; then
    [[ -n ${HOME:-} ]] || fail "neither SATURN_DEPS nor HOME is set" "a folder for the dependencies" \
      "SATURN_DEPS=/var/cache/saturn $program"
    folder=$HOME/.cache/saturn
  fi
  [[ $folder == /* ]] || folder=$PWD/$folder
  printf '%s\n' "${folder%/}"
}

# build <preset> [<target>...]: configures and builds against the cache, with ccache's folder inside it. As many
# jobs as there are cores, and no more than one per 2 GiB of free memory (CMake's pool bounds the heavy ones).
build() {
  local preset=$1 memory_gib jobs
  shift
  memory_gib=$(awk '/^MemAvailable:/ { print int($2 / 1048576) }' /proc/meminfo)
  jobs=$(nproc)
  ((jobs <= memory_gib / 2)) || jobs=$((memory_gib / 2 > 1 ? memory_gib / 2 : 1))
  export CCACHE_DIR=${CCACHE_DIR:-$SATURN_DEPS/ccache}
  (cd "$root" && cmake --preset "$preset" -DSATURN_DEPS="$SATURN_DEPS" && cmake --build --preset "$preset" -j "$jobs" ${1:+--target "$@"}) >&2
}

has_nvidia_gpu() { compgen -G '/dev/nvidia[0-9]*' >/dev/null; }

SATURN_DEPS=$(dependency_cache) || exit $?
export SATURN_DEPS
