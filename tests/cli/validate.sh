# saturn init writes a batch that validate accepts; faults and devices that do not exist are exit 2 with a place.
for _ in {1..100}; do printf 'In the beginning God created the heaven and the earth.\n%.0s' {1..20}; done >corpus.txt
run 0 "$SATURN" init sweep.toml
run 2 "$SATURN" init sweep.toml
has err "sweep.toml: error: this file exists already"
run 0 "$SATURN" validate sweep.toml
has out "gpt2-3e-3-b8"
has out "batch sweep: 4 jobs, 2 to measure, no fault"
run 0 "$SATURN" validate sweep.toml --json
python3 -c 'import json, sys; d = json.load(open(sys.argv[1])); assert len(d["jobs"]) == 4 and d["jobs"][0]["steps"] == 200, d' out
sed -i 's/^batch_size = 16$/&\ndevices = [1, 4096]\ntechniques = ["single"]/' sweep.toml
run 2 "$SATURN" validate sweep.toml
has err 'sweep.toml:20:15: error: job "gpt2-3e-3-b8" asks for 4096 devices, and there are not so many'
sed -i 's/^devices = .*/bach_size = 3/; s/gpt2-toy/gpt2-toyy/' sweep.toml
run 2 "$SATURN" validate sweep.toml
has err 'did you mean "batch_size"?'
has err 'did you mean "gpt2-toy"?'
for command in "models" "models --keys" "models --json" "techniques" "techniques --json" "schema" "schema --json"; do
  run 0 "$SATURN" $command
done
