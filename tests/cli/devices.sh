# The machine's slots are listed, limited to the cores this process may use; JSON has stable keys.
run 0 "$SATURN" devices
has out "device" "class" "cores" "threads" "memory" "local:0"
first=$(taskset -cp $$ | sed 's/.*: //; s/[-,].*//')
run 0 taskset -c "$first" "$SATURN" devices --json
has out '"fingerprint"' '"machine"' '"nodes"' '"gpus"'
[[ $(grep -c '"index"' out) == 1 ]] || broken "one core must be one slot" out
run 2 "$SATURN" devices extra

cat >batch.toml <<'TOML'
[batch]
name = "slots"
[devices]
cpu_slots = 3
oversubscribe = true
[data.text]
kind = "text"
path = "text.txt"
tokenizer = "bytes"
sequence_length = 8
[[job]]
name = "a"
model = "gpt2-toy"
data = "text"
steps = 1
batch_size = 1
[job.optimizer]
lr = 1e-3
TOML
printf 'In the beginning God created the heaven and the earth.\n%.0s' {1..50} >text.txt
run 0 taskset -c "$first" "$SATURN" devices batch.toml
has out "local:2"
sed -i '/oversubscribe/d' batch.toml
run 2 taskset -c "$first" "$SATURN" devices batch.toml
has err "batch.toml:4:13: error: cpu_slots = 3 needs 3 cores; this process may use 1 core" "oversubscribe = true"

# GPUs as a driver tells them: all it knows, what old ones know, and one that does not answer.
export LD_LIBRARY_PATH=$SATURN_BINARY_DIR/fake_driver
run 0 "$SATURN" worker --probe
has out '"name": "NVIDIA H200"' '"uuid": "GPU-0001"' '"numa_node": 2' '"numa_node": 66' '"path": "nvlink"' \
  '"path": "bridge"' '"pid": 4711' '"name": "python3"'
CUDA_VISIBLE_DEVICES=GPU-0001 run 0 "$SATURN" worker --probe
lacks out '"uuid": "GPU-0000"'
FAKE_NVML=old run 0 "$SATURN" worker --probe
has out '"numa_node": -1' '"links": []' '"pid": 4711' '"name": ""'
FAKE_NVML=broken run 0 "$SATURN" worker --probe
has out '"gpus": []' '"reason": "the driver does not answer: Driver Not Loaded"'
