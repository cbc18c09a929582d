# Every configuration trains as single does; one whose gradient is broken on purpose is found; Ctrl-C leaves nothing.
[[ $SATURN_TRAIN == 1 ]] || skip "this build cannot train"
toy_batch tiny >tiny.toml
cat >>tiny.toml <<'TOML'
[[job]]
name = "toy-{lr}"
model = "gpt2-toy"
data = "text"
steps = 4
batch_size = 4
techniques = ["single", "ddp"]
optimizer.clip_norm = 1.0
[job.grid]
lr = [3e-3, 1e-3]
TOML
run 2 "$SATURN" verify tiny.toml --steps 0
has err "--steps 0 cannot be verified"
run 0 "$SATURN" verify tiny.toml --steps 4 --json
python3 - <<'PYTHON' || broken "the JSON says something else" out err
import json
job, = json.load(open("out"))["jobs"]
assert job["jobs"] == ["toy-3e-3", "toy-1e-3"] and job["reference"] == "single x1" and not job["warnings"], job
ways = {(c["technique"], c["num_devices"]): c for c in job["configurations"]}
assert {("single", 1), ("single", 2), ("ddp", 2)} <= set(ways), ways
for way in ways.values():
    assert way["outcome"] == "ok" and way["loss_difference"] <= 1e-5 and way["update_difference"] <= 1e-3, way
assert ways[("single", 1)]["update_difference"] == 0
PYTHON
[[ ! -e runs/tiny/verify ]] || broken "scratch files are left"

run 1 env COLUMNS=120 SATURN_TRAIN_LIBRARY="$SATURN_BINARY_DIR/libsaturn_train_broken.so" "$SATURN" verify tiny.toml --steps 2
has out "ddp x2" "DIFFERS" "attn.c_proj.weight" "some configuration does not train as its reference does"

"$SATURN" verify tiny.toml --steps 1000 >out 2>err </dev/null &
controller=$!
for _ in $(seq 300); do
  if [[ -s runs/tiny/verify/0/log.txt || -d runs/tiny/verify/0/checkpoints ]]; then break; fi
  sleep 0.1
done
workers=$(pgrep -P "$controller" || true)
kill -INT "$controller"
status=0
wait "$controller" || status=$?
[[ $status == 130 ]] || broken "exit code $status, expected 130" err
for pid in $workers; do
  if [[ -d /proc/$pid ]]; then broken "process $pid is left" err; fi
done
[[ ! -e runs/tiny/verify ]] || broken "scratch files are left"
