# A run takes pause, cancel, add and stop from another terminal, refuses what it cannot do, and is watched meanwhile.
[[ $SATURN_TRAIN == 1 ]] || skip "this build cannot train"
for i in $(seq 400); do printf 'And God said Let there be light and there was light. %d\n' "$i"; done >text.txt
batch() {
  printf '[batch]\nname = "asked"\n[devices]\ncpu_slots = 1\nthreads_per_slot = 1\n[data.text]\nkind = "text"\n'
  printf 'path = "text.txt"\nsequence_length = 32\n'
  for name in "$@"; do
    printf '[[job]]\nname = "%s"\nmodel = "gpt2-toy"\ndata = "text"\nsteps = 100000\nbatch_size = 8\n' "$name"
    printf 'optimizer.lr = 1e-3\n'
  done
}
batch one two >batch.toml
batch three >more.toml
"$SATURN" run batch.toml >run.out 2>run.err </dev/null &
controller=$!
trap 'kill -9 $controller 2>/dev/null || true' EXIT
for _ in $(seq 600); do
  if compgen -G 'runs/asked/jobs/*/metrics.jsonl' >/dev/null; then break; fi
  sleep 0.1
done
first=$(basename "$(dirname "$(compgen -G 'runs/asked/jobs/*/metrics.jsonl' | head -n 1)")")
other=$([[ $first == one ]] && echo two || echo one)
"$SATURN" status runs/asked --watch --json >watch.out 2>watch.err &
watcher=$!
run 0 "$SATURN" cancel runs/asked "$other"
has out "job \"$other\" is cancelled now"
run 2 "$SATURN" pause runs/asked "$other"
has err "job \"$other\" is cancelled"
run 2 "$SATURN" pause runs/asked nobody
has err 'job "nobody" is not in this run'
run 0 "$SATURN" add runs/asked more.toml
has out "1 job has joined the run"
printf '{"format": "saturn.request/1", "verb": "explode"' >runs/asked/control/hostile.json
run 0 "$SATURN" pause runs/asked "$first" --json
has out '"accepted": true' '"taken": true'
for _ in $(seq 300); do
  "$SATURN" status runs/asked >out
  if grep -q "$first *paused" out; then break; fi
  sleep 0.1
done
has out "paused"
run 0 "$SATURN" stop runs/asked
status=0
wait $controller || status=$?
[[ $status == 143 ]] || broken "exit code $status, expected 143" run.err
[[ -z $(ls runs/asked/control) ]] || broken "something is left in control/" run.err
has run.err "control/hostile.json was removed unread"
run 0 "$SATURN" status runs/asked
has out "asked: stopped" "three"
run 0 "$SATURN" resume runs/asked "$first"
has out "goes on"
run 0 "$SATURN" drain runs/asked 0
run 0 "$SATURN" drain runs/asked local:0 --undo
run 2 "$SATURN" drain runs/asked 9
wait $watcher || broken "the watch ended badly" watch.err
has watch.out '"outcome":"running"' '"outcome":"stopped"' '"state":"paused"'
