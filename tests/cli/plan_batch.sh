# A batch is planned from a profile that is measured where it is missing and refused where a named one is stale.
for i in {1..400}; do printf 'in the beginning was word %d and the word was good\n' "$i"; done >text.txt
cat >tiny.toml <<'TOML'
[batch]
name = "tiny"
[devices]
cpu_slots = 1
threads_per_slot = 1
[data.text]
kind = "text"
path = "text.txt"
sequence_length = 32
[[job]]
name = "toy-{lr}"
model = "gpt2-toy"
data = "text"
steps = 4
batch_size = 2
techniques = ["single"]
[job.grid]
lr = [1e-3, 3e-4]
[profile]
warmup_steps = 1
trial_steps = 2
TOML
run 2 "$SATURN" plan
has err "nothing to plan was given" "BATCH, or --table FILE"
run 2 "$SATURN" plan tiny.toml --table table.json
has err "cannot be planned together"
run 4 "$SATURN" plan tiny.toml --profile "$SATURN_SOURCE_DIR/tests/golden/profile/profile.json"
has err "this profile is not one of tiny.toml" "fix: saturn profile tiny.toml"

[[ $SATURN_TRAIN == 1 ]] || exit 0
run 0 "$SATURN" plan tiny.toml --time-limit 5
has out "tiny: 2 jobs" "toy-1e-3" "toy-3e-4" "written to runs/tiny/plan.000.json"
run 0 "$SATURN" plan tiny.toml --time-limit 5 --detailed-exitcode
has out "unchanged: runs/tiny/plan.000.json"
[[ ! -e runs/tiny/plan.001.json ]] || broken "an equal plan was written again"
run 0 "$SATURN" check runs/tiny/plan.000.json

# Run elsewhere, a plan brings its profile along instead of having it measured again.
run 0 "$SATURN" run runs/tiny/plan.000.json --dir elsewhere
lacks err "measuring"
cmp -s runs/tiny/profile.json elsewhere/profile.json || broken "another profile was used" err
