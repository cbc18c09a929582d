# What cannot be run is refused before anything is written: exit 2 with what was expected.
printf '[batch]\nname = "b"\n[data.t]\nkind = "text"\npath = "text.txt"\nsequence_length = 16\n[[job]]\nname = "j"\n' >batch.toml
printf 'model = "gpt2-toy"\ndata = "t"\nsteps = 5\nbatch_size = 2\noptimizer.lr = 1e-3\n' >>batch.toml
run 2 "$SATURN" run batch.toml
has err "text.txt" "batch.toml:5:"
[[ ! -e runs ]] || broken "a run directory was made" err
seq 2000 >text.txt
run 2 "$SATURN" run nowhere.toml
has err nowhere.toml
run 2 "$SATURN" run batch.toml --only jj
has err '"jj" is not in' 'did you mean "j"?'
run 2 "$SATURN" run batch.toml --devices 999
has err 'there is no device "999"' "expected: some of"
touch file
run 2 "$SATURN" run batch.toml --dir file/run
has err "file/run" "cannot create"
run 2 "$SATURN" profile batch.toml --budget soon
has err "is not a duration" "--budget 5m"
mkdir other
printf '{"hello": 1}\n{"hello": 2}\n' >other/events.jsonl
run 2 "$SATURN" run batch.toml --dir other
has err "other/events.jsonl:1:1"
[[ $(wc -l <other/events.jsonl) == 2 ]] || broken "a stranger's file was changed" other/events.jsonl
run 2 "$SATURN" status nothing
has err "no run has been started here" "fix: saturn run BATCH"
run 2 "$SATURN" log nothing j
