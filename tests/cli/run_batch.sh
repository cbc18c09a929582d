# A batch of real text is measured, planned, trained and summarised; the second run has nothing to do, and a changed
# learning rate runs that job alone again and says why. Nothing of the environment is written down, and modes are the
# umask's.
[[ $SATURN_TRAIN == 1 ]] || skip "this build cannot train"
umask 022
export SATURN_TEST_SECRET=hunter2-correct-horse
for i in $(seq 400); do printf 'In the beginning God created the heaven and the earth. %d\n' "$i"; done >text.txt
write_batch() {
  cat >batch.toml <<END
[batch]
name = "small"
[devices]
cpu_slots = 2
threads_per_slot = 1
oversubscribe = true
[data.text]
kind = "text"
path = "text.txt"
sequence_length = 32
[[job]]
name = "one"
model = "gpt2-toy"
data = "text"
steps = 30
batch_size = 8
techniques = ["single", "ddp"]
optimizer.lr = 3e-3
[[job]]
name = "two"
model = "gpt2-toy"
data = "text"
steps = 30
batch_size = 8
techniques = ["single", "ddp"]
optimizer.lr = $1
END
}
write_batch 1e-3
run 0 "$SATURN" run batch.toml
has out one two done unigram
has err "there is no profile yet" "there is no plan yet"
for file in profile.json plan.000.json summary.json jobs/one/metrics.jsonl jobs/two/model/model.safetensors; do
  [[ -s runs/small/$file ]] || broken "no $file in the run directory" err
done
run 0 "$SATURN" status runs/small
has out "small: done" 30/30
run 0 "$SATURN" log runs/small one
has out "attempt 1"
run 0 "$SATURN" accuracy runs/small
has out "typical error: step" "makespan"
run 0 "$SATURN" accuracy runs/small --json
has out '"typical_error"' '"memory_bytes"'
run 0 "$SATURN" best runs/small
has out "best: " runs/small/jobs/
run 0 "$SATURN" best runs/small --metric train_loss --json
has out '"metric": "train_loss"'
run 2 "$SATURN" best runs/small --metric los
has err 'no finished job has the metric "los"' 'did you mean "loss"?'
run 0 "$SATURN" export runs/small one exported --dtype bf16
has out "tensors of bf16"
run 0 "$SATURN" eval exported --text text.txt --sequence-length 32
run 2 "$SATURN" export runs/small one exported
has err "exported: error: there is something already"
run 2 "$SATURN" export runs/small on elsewhere
has err 'job "on" is not in this run' 'did you mean "one"?'
run 2 "$SATURN" export runs/small one elsewhere --best
has err "no checkpoint has a validation loss"
run 0 "$SATURN" run batch.toml --json
has err "nothing is left to run"
has out '"state": "done"' '"outcome": "done"'
write_batch 3e-4
run 0 "$SATURN" run batch.toml
has err 'job "two" begins again: optimizer.lr 0.001 -> 0.0003'
lacks err "one: started"
[[ -s runs/small/replaced/two.000/model/model.safetensors ]] || broken "the result before was not kept" err
! grep -rq hunter2 runs || broken "the environment stands in $(grep -rl hunter2 runs)"
odd=$(find runs \( -type d ! -perm 755 -o ! -type d ! -perm 644 \))
[[ -z $odd ]] || broken "other modes than the umask says: $odd"
