# The first signal saves what runs, ends it within its grace and leaves no process; meanwhile a second run is refused.
[[ $SATURN_TRAIN == 1 ]] || skip "this build cannot train"
for i in $(seq 400); do printf 'And God said Let there be light and there was light. %d\n' "$i"; done >text.txt
cat >batch.toml <<'END'
[batch]
name = "long"
[devices]
cpu_slots = 1
threads_per_slot = 1
[data.text]
kind = "text"
path = "text.txt"
sequence_length = 32
[[job]]
name = "only"
model = "gpt2-toy"
data = "text"
steps = 100000
batch_size = 8
optimizer.lr = 1e-3
END
"$SATURN" run batch.toml >first.out 2>first.err </dev/null &
controller=$!
for _ in $(seq 600); do
  if [[ -s runs/long/jobs/only/metrics.jsonl ]]; then break; fi
  sleep 0.1
done
[[ -s runs/long/jobs/only/metrics.jsonl ]] || broken "it did not begin to train" first.err
run 2 "$SATURN" run batch.toml
has err "another saturn uses this run directory: pid $controller"
run 0 "$SATURN" status runs/long
has out "running, pid $controller"
start=$(date +%s%N)
kill -TERM $controller
status=0
wait $controller || status=$?
took=$((($(date +%s%N) - start) / 1000000))
[[ $status == 143 ]] || broken "exit code $status, expected 143" first.err
((took <= 20000)) || broken "it took $took ms to end" first.err
pids=$(grep -o '"pid":[0-9]*,"start_ticks"' runs/long/events.jsonl | grep -o '[0-9]*' || true)
for pid in $pids; do
  if [[ -d /proc/$pid ]]; then broken "process $pid is left" first.err; fi
done
has first.out pending
run 0 "$SATURN" status runs/long
has out "long: interrupted" "only"
grep -q '"event":"checkpoint"' runs/long/events.jsonl || broken "nothing was saved" first.err runs/long/events.jsonl
