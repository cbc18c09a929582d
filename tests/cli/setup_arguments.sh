# tools/setup refuses what it does not know and a cache it cannot write, with a fix, before it installs anything.
setup=$SATURN_SOURCE_DIR/tools/setup
run 0 "$setup" --help
has out "Usage: tools/setup"
run 2 "$setup" --cqu
has err 'option "--cqu" does not exist' "expected:" "fix: tools/setup --help"
run 2 env -u HOME -u SATURN_DEPS "$setup" --cpu
has err "neither SATURN_DEPS nor HOME is set" "fix: SATURN_DEPS="
run 2 env SATURN_DEPS=/proc/nowhere "$setup" --cpu
has err "/proc/nowhere cannot be written" "fix: SATURN_DEPS="
