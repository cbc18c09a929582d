# A program proposes jobs, hears of their losses and stops one; killed on the way it is asked for the rest alone. Optuna
# does the same where it is installed.
[[ $SATURN_TRAIN == 1 ]] || skip "this build cannot train"
toy_batch asked >batch.toml
cat >>batch.toml <<'END'
[plan]
time_limit = "1s"
[[job]]
name = "job-{sample}"
model = "gpt2-toy"
data = "text"
steps = 20
batch_size = 8
techniques = ["single"]
optimizer.kind = "adamw"
[search]
method = "ask"
command = ["sh", "propose.sh"]
samples = 4
at_once = 1
first_rung = 5
END
# Proposal 1, which would train for an hour, is stopped at its first rung; the program ends before proposal 3 unless it may go on.
cat >propose.sh <<'END'
while read -r line; do
  echo "$line" >>heard
  case $line in
    *'"begin"'*) echo '{"ready":true}' ;;
    *'"ask"'*'"number":3'*) [ -e may_go_on ] || { echo "out of ideas" >&2; exit 3; }; echo '{"parameters":{"lr":0.002}}' ;;
    *'"ask"'*'"number":1}'*) echo '{"parameters":{"lr":0.001,"steps":100000}}' ;;
    *'"ask"'*) echo '{"parameters":{"lr":0.001}}' ;;
    *'"report"'*'"number":1,'*) echo '{"stop":true}' ;;
    *'"report"'*) echo '{"stop":false}' ;;
    *) echo '{}' ;;
  esac
done
END
run 0 "$SATURN" validate batch.toml
run 1 "$SATURN" run batch.toml
has err "ended with exit code 3; it last said: out of ideas"
has out "2 of 3 jobs done" "job-1 stopped_early: at step 5 its program stopped it"
touch may_go_on
rm heard
run 0 "$SATURN" run batch.toml
has out "3 of 4 jobs done"
[[ $(grep -c '"type":"ask"' heard) == 1 ]] || broken "what was proposed is asked for again" heard
has heard '"history":[{"number":0,"parameters":{"lr":0.001},"state":"done"'
run 0 "$SATURN" run batch.toml
has err "nothing is left to run"

python=${SATURN_DEPS:-$HOME/.cache/saturn}/venv/bin/python
if "$python" -c 'import optuna' 2>/dev/null; then
  cp "$SATURN_SOURCE_DIR/configs/optuna_ask.py" .
  sed -e "s|\"sh\", \"propose.sh\"|\"$python\", \"optuna_ask.py\"|" -e 's/"asked"/"optuna"/' batch.toml >optuna.toml
  run 0 "$SATURN" run optuna.toml
  run 0 "$SATURN" status runs/optuna --json
  [[ $(grep -c '"name": "job-' out) == 4 ]] || broken "Optuna proposed another number of jobs" out
  [[ $(grep -c '"event":"proposed"' runs/optuna/events.jsonl) == 4 ]] || broken "not journaled" runs/optuna/events.jsonl
  lacks out '"state": "failed"'
fi
