# A run's checkpoints are listed, verified byte by byte and pruned; damage is named, and no link leads out of the run.
mkdir -p run/jobs/a/checkpoints run/jobs/b/checkpoints outside/step-000099
shelf=run/jobs/a/checkpoints
for step in 3 5 7; do "$SATURN_BINARY_DIR/make_checkpoint" $shelf $step 2.5; done
touch outside/kept
ln -s "$PWD/outside" run/jobs/c
ln -s "$PWD/outside" $shelf/step-000001
ln -s "$PWD/outside" $shelf/step-000002.tmp
mkdir run/jobs/d && ln -s "$PWD/outside" run/jobs/d/checkpoints

run 0 "$SATURN" checkpoint ls run
has out "2.5" "latest"
run 0 "$SATURN" checkpoint ls run --json
has out '"job": "a"' '"step": 3' '"latest": true' '"best": true' '"validation_loss": 2.5'
lacks out '"step": 1,' '"step": 99' outside
run 0 "$SATURN" checkpoint verify run
has out "$shelf/step-000003: good" "$shelf/step-000007: good"

run 2 "$SATURN" checkpoint ls run --job ../../outside
has err 'job "../../outside" has left nothing in this run' "some of a, b, d"
run 2 "$SATURN" checkpoint ls outside
has err "no run has been started here"
run 2 "$SATURN" checkpoint prune run --keep 0
has err "would leave nothing to resume from"

printf '\x7f' | dd of=$shelf/step-000005/rank-00001.bin bs=1 seek=9 conv=notrunc status=none
: >$shelf/step-000003/rank-00000.bin
run 2 "$SATURN" checkpoint verify run
has out "$shelf/step-000007: good" "$shelf/step-000005: damaged"
has err "step-000005/manifest.json#/tensors/0/pieces/2/digests/0: error: the bytes of \"matrix\" in rank-00001.bin" \
  "step-000003/rank-00000.bin: error: this has 0 bytes"
run 2 "$SATURN" checkpoint verify run --json
has out '"good": false' '"good": true'
[[ ! -s err ]] || broken "something beside the document" err

exec 9>run/lock
flock 9
run 2 "$SATURN" checkpoint prune run
has err "another saturn uses this run directory"
exec 9>&-
run 0 "$SATURN" checkpoint prune run --keep 1 --json
has out '"step": 5'
[[ -d $shelf/step-000007 && -d $shelf/step-000003 && ! -e $shelf/step-000005 ]] ||
  broken "the newest and the first of the best stay, no other" out
[[ -e outside/kept && -d outside/step-000099 && -L $shelf/step-000001 ]] || broken "a link was followed" out
