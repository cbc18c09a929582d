# The machine's slots are listed, limited to the cores this process may use; JSON has stable keys.
run 0 "$SATURN" devices
has out "device" "class" "cores" "threads" "memory" "local:0"
first=$(taskset -cp $$ | sed 's/.*: //; s/[-,].*//')
run 0 taskset -c "$first" "$SATURN" devices --json
has out '"fingerprint"' '"machine"' '"nodes"' '"gpus"'
[[ $(grep -c '"index"' out) == 1 ]] || broken "one core must be one slot" out
run 2 "$SATURN" devices extra
