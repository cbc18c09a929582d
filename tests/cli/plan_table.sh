# A bare table is planned, explained and checked; what is wrong with one is said at its place, and nothing is
# written then. An interrupted search leaves its best plan so far.
good='{"nodes": [{"name": "n0", "devices": 2, "class": "gpu"}],
 "jobs": [{"name": "a", "configs": [{"technique": "single", "devices": 1, "class": "gpu", "seconds": 40}]},
          {"name": "b", "configs": [{"technique": "ddp", "devices": 2, "class": "gpu", "seconds": 30}]}]}'

# refused <exit code> <what to replace> <by what> <text of the message>...
refused() {
  local code=$1 from=$2 to=$3
  shift 3
  printf '%s' "${good/"$from"/"$to"}" >bad.json
  run "$code" "$SATURN" plan --table bad.json --out plan.json --time-limit 5
  has err "$@"
  [[ ! -e plan.json ]] || broken "a plan was written for: $to" err
}
refused 2 '"devices": 2, "class": "gpu"}]' '"devices": 0, "class": "gpu"}]' 'bad.json#/nodes/0/devices: error: node "n0"'
refused 2 '"seconds": 40' '"seconds": -40' 'bad.json#/jobs/0/configs/0/seconds: error: job "a"'
refused 2 '"seconds": 40' '"seconds": 1e300' 'bad.json#/jobs/0/configs/0/seconds'
refused 2 '"seconds": 40' '"seconds": NaN' 'bad.json:2:' 'not JSON'
refused 2 '"seconds": 40' '"seconds": 40, "colour": 1' 'bad.json#/jobs/0/configs/0/colour'
refused 2 '"name": "b"' '"name": "a"' 'bad.json#/jobs/1/name: error: job "a" appears twice'
refused 2 '"name": "a"' '"name": "a", "after": ["a"]' 'bad.json#/jobs/0/after: error: job "a" waits'
refused 3 '"devices": 2, "class": "gpu", "s' '"devices": 3, "class": "gpu", "s' 'bad.json#/jobs/1: error: job "b" fits on no node'
refused 3 '"name": "b"' '"name": "b", "deadline_s": 29' 'bad.json#/jobs/1/deadline_s' 'job "b"'
refused 2 "$good" '' 'bad.json:1:1: error: the JSON document ends too early'
head -c 100000000 /dev/zero | tr '\0' ' ' >bad.json
run 2 "$SATURN" plan --table bad.json --out plan.json
has err "bad.json: error: file is larger than"

printf '%s' "$good" >table.json
run 2 "$SATURN" plan --table table.json --policy sturn --out plan.json
has err 'policy "sturn" does not exist' 'did you mean "saturn"'
run 2 "$SATURN" plan --table table.json --explain c --iterations 1000
has err '"c"'
run 0 "$SATURN" plan --table table.json --out plan.json --explain b --iterations 1000
has out "makespan     70.0 s" "optimal" "ddp"
for policy in saturn current-practice minimal random optimus-greedy best-list published; do
  run 0 "$SATURN" plan --table table.json --policy "$policy" --out "$policy.json" --time-limit 20
  run 0 "$SATURN" check "$policy.json" --table table.json
done

# Forty jobs of many sizes are not proven soon: the search is interrupted as soon as it listens for the signal.
awk 'BEGIN {
  printf "{\"nodes\": [{\"name\": \"n0\", \"devices\": 8, \"class\": \"gpu\"}, {\"name\": \"n1\", \"devices\": 8, \"class\": \"gpu\"}], \"jobs\": ["
  for (j = 0; j < 40; ++j) {
    printf "%s{\"name\": \"j%d\", \"configs\": [", (j ? ", " : ""), j
    for (w = 1; w <= 8; ++w)
      printf "%s{\"technique\": \"ddp\", \"devices\": %d, \"class\": \"gpu\", \"seconds\": %d}", (w == 1 ? "" : ", "), w, (7919 * (j + 3)) % 9973 * (100 + (31 * j * w) % 17) / w + 1
    printf "]}"
  }
  printf "]}"
}' >many.json
"$SATURN" plan --table many.json --out many.plan.json --time-limit 3600 >out 2>err </dev/null &
process=$!
listens() { [[ /proc/$process/exe -ef $SATURN ]] && (( 0x$(awk '/^SigCgt/ {print $2}' "/proc/$process/status") & 2 )); }
for _ in {1..600}; do ! listens || break; sleep 0.1; done
kill -INT "$process"
code=0
wait "$process" || code=$?
[[ $code == 0 ]] || broken "exit code $code after an interrupt" out err
has out "interrupted"
run 0 "$SATURN" check many.plan.json --table many.json
