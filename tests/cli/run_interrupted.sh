# A signal saves what runs, ends it with its own exit code within its grace and leaves no process; the same command goes
# on; a second signal ends at once; meanwhile a second run is refused.
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
controller=
trap 'kill -9 $controller 2>/dev/null || true; rm -rf "$folder"' EXIT

# The number of checkpoints and steps that the journal and the metrics hold.
num_saved() { grep -c '"event":"checkpoint"' runs/long/events.jsonl || true; }
num_steps() { { cat runs/long/jobs/only/metrics.jsonl 2>/dev/null || true; } | wc -l; }

begin() {
  local before
  before=$(num_steps)
  "$SATURN" run batch.toml >first.out 2>first.err </dev/null &
  controller=$!
  for _ in $(seq 1200); do
    if (($(num_steps) > before)); then return; fi
    sleep 0.1
  done
  broken "it did not begin to train" first.err
}

# ended <exit code>: the controller ends with it, and nobody it has ever started is there.
ended() {
  local status=0 pid ticks
  wait $controller || status=$?
  [[ $status == "$1" ]] || broken "exit code $status, expected $1" first.err
  while IFS=, read -r pid ticks; do
    if [[ $(cut -d' ' -f22 "/proc/$pid/stat" 2>/dev/null) == "$ticks" ]]; then broken "process $pid is left" first.err; fi
  done < <(grep -o '"pid":[0-9]*,"start_ticks":[0-9]*' runs/long/events.jsonl | tr -cd '0-9,\n')
}

begin
run 2 "$SATURN" run batch.toml
has err "another saturn uses this run directory: pid $controller"
run 0 "$SATURN" status runs/long
has out "running, pid $controller"
saved=0
for signal in TERM:143 INT:130 HUP:129; do
  kill "-${signal%:*}" $controller
  ended "${signal#*:}"
  (($(num_saved) > saved)) || broken "nothing was saved" first.err runs/long/events.jsonl
  saved=$(num_saved)
  run 0 "$SATURN" status runs/long
  has out "long: interrupted" "only"
  begin
  grep -F '"event":"attempt_started"' runs/long/events.jsonl | tail -n 1 >started
  has started "\"resume_from\":\"checkpoints/step-"
done

# Ranks that do not run cannot save: the second signal does not wait for them.
ranks=$(grep -o '"pid":[0-9]*,"start_ticks"' runs/long/events.jsonl | tail -n 1 | grep -o '[0-9]*')
kill -STOP "$ranks"
kill -INT $controller
for _ in $(seq 100); do
  if grep -q '"event":"stopping".*' <(tail -n 1 runs/long/events.jsonl); then break; fi
  sleep 0.1
done
kill -INT $controller
ended 130
[[ $(num_saved) == "$saved" ]] || broken "a rank that stood still has saved" runs/long/events.jsonl
