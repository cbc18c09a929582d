# The worker is no command for people: hidden from the help, and it says so.
run 0 "$SATURN" --help
lacks out "worker"
run 2 "$SATURN" worker
has err "started by saturn itself" "fix: saturn run"
run 2 env SATURN_TRAIN_LIBRARY="$PWD/nowhere.so" "$SATURN" worker --fd 99
has err "descriptor 99 is not a connected socket"
run 0 "$SATURN" worker --probe
has out '"gpus"' '"usable"'
