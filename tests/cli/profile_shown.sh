# A profile is listed with its reasons, and two are compared trial by trial.
profile=$SATURN_SOURCE_DIR/tests/golden/profile/profile.json
run 0 env LC_ALL=C COLUMNS=150 "$SATURN" show "$profile"
has out "3 trials on 2 devices" "gpt2-1e-3-b16 +1  single x1" "31.40" "out_of_memory" \
  "gpt2-toy-b16-ddp-x2: the slot's limit of 2.0 GiB was reached" "> 2.1 GiB" \
  "not tried: 1 other setting of their knobs"
run 0 env LC_ALL=C COLUMNS=60 "$SATURN" show "$profile" --table
[[ $(wc -l <out) == 4 && $(wc -L <out) -le 60 ]] || broken "a line per trial that fits, under its titles" out
run 0 "$SATURN" show "$profile" --json
cmp -s out "$profile" || broken "--json is the document itself" out

run 0 "$SATURN" diff "$profile" "$profile" --detailed-exitcode
has out "No trial differs."
sed 's/0\.0191/0.0201/' "$profile" >slower.json
run 10 "$SATURN" diff "$profile" slower.json --detailed-exitcode
has out "single x2" "+5.2 %"
run 2 "$SATURN" check "$profile"
has err "saturn.plan"

# What is kept for other batches; nothing where that is turned off.
run 2 "$SATURN" profile --list
has err "no trials are kept" "SATURN_TRIAL_CACHE"
export SATURN_TRIAL_CACHE=$PWD/trials
run 0 "$SATURN" profile --list
has out "no trials are kept in $PWD/trials"
run 2 "$SATURN" profile
has err "nothing to measure was given" "BATCH, or --list"
run 2 "$SATURN" profile batch.toml --gap 1.5
has err "--gap 1.5 is no share" "less than 1"
