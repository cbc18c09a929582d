# Every check is a line; a training library that is not there is a failed check with a fix, and exit code 2.
SATURN_TRAIN_LIBRARY=$PWD/nowhere.so run 2 "$SATURN" doctor
has out "failed  training library" "nowhere.so" "fix: " "ok      loopback" "cores" "memory" "disk"

printf 'not a library\n' >broken.so
SATURN_TRAIN_LIBRARY=$PWD/broken.so run 2 "$SATURN" doctor --json
has out '"ok": false' "broken.so" "cannot be loaded"

if [[ $SATURN_TRAIN == 1 ]]; then
  run 0 "$SATURN" doctor
  has out "LibTorch 2.11"
fi
