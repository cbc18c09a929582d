# A search trains few of its jobs to their end: the others are stopped at a rung, and status, summary, report and the best
# job say so. Run again, nothing is left.
[[ $SATURN_TRAIN == 1 ]] || skip "this build cannot train"
toy_batch small >batch.toml
cat >>batch.toml <<'END'
[plan]
time_limit = "1s"
[[job]]
name = "job-{lr}"
model = "gpt2-toy"
data = "text"
batch_size = 8
techniques = ["single", "ddp"]
[job.zip] # the worse ones would train for an hour: they are stopped however late the controller hears of them
lr = [1e-6, 3e-3, 1e-5, 2e-6]
steps = [100000, 40, 100000, 100000]
[search]
method = "asha"
first_rung = 5
reduction_factor = 4
END
run 0 "$SATURN" validate batch.toml
run 0 "$SATURN" plan batch.toml --json
run 0 "$SATURN" run batch.toml
has out "stopped_early: at step 5 its validation_loss" "1 of 4 jobs done"
run 0 "$SATURN" best runs/small
has out "best: job-3e-3"
run 0 "$SATURN" status runs/small
has out "small: done" "40/40" stopped_early
[[ $(grep -c '"event":"searched"' runs/small/events.jsonl) -ge 7 ]] || broken "too few decisions" runs/small/events.jsonl
has runs/small/summary.json '"state": "stopped_early"' '"decision": "stop"' '"rung": 5'
has runs/small/report.html stopped_early
run 0 "$SATURN" run batch.toml
has err "nothing is left to run"
