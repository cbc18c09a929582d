# A table is simulated under several policies, repeatably, and asked what-if; what cannot be is refused.
table=$SATURN_SOURCE_DIR/configs/reference/txt-1x8.json
quick=(--runs 1 --iterations 300)
run 0 "$SATURN" simulate --table "$table" "${quick[@]}" --error 0.3
has out saturn-dynamic current-practice
run 0 "$SATURN" simulate --table "$table" "${quick[@]}" --policy minimal --policy minimal-dynamic --json
cp out first
run 0 "$SATURN" simulate --table "$table" "${quick[@]}" --policy minimal --policy minimal-dynamic --json
cmp first out || broken "the same seed gave another document" out
run 0 "$SATURN" simulate --table "$table" "${quick[@]}" --policy minimal --policy minimal-dynamic --json --processes 1
cmp first out || broken "one process gave another document than several" out
run 0 "$SATURN" simulate --table "$table" "${quick[@]}" --policy best-list --class h100:2 --devices 1x4:h100+1x8
has out best-list

run 2 "$SATURN" simulate
has err "nothing to simulate"
run 2 "$SATURN" simulate --table "$table" --policy best-lits
has err 'did you mean "best-list"'
run 2 "$SATURN" simulate --table "$table" --fail 2/week
has err "N/day or N/hour"
run 2 "$SATURN" simulate --table "$table" --devices 1x4:h100
has err "--class h100:1.8"
refused() {
  run 2 "$SATURN" simulate --table "$table" "$@"
  has err expected:
  has err fix:
}
for devices in 4x 0x8 x8 4 4x8+ 1.5x2 -1x8 99999x99999; do refused --devices "$devices"; done
for class in h100 h100: h100:0 h100:-1 h100:fast :2 a100:2 "h 1:2"; do refused --class "$class"; done
for rate in 2 /day x/day -1/day 2/week nan/day 1e9/day; do refused --fail "$rate"; done
run 2 "$SATURN" simulate --table "$table" --error -1 --noise 3 --runs 0 --processes 0
has err --error
has err --noise
has err --runs
has err --processes
"$SATURN_SOURCE_DIR/tools/reference_tables" --check || broken "configs/reference is not what its tool writes"

# Two jobs on two devices: what one command says of break-even, and that long jobs pay where none would.
cat >small.json <<'END'
{"nodes":[{"name":"n0","devices":2,"class":"a"}],"jobs":[
 {"name":"one","configs":[{"technique":"single","devices":1,"class":"a","seconds":7200},{"technique":"ddp","devices":2,"class":"a","seconds":4200}]},
 {"name":"two","configs":[{"technique":"single","devices":1,"class":"a","seconds":7200},{"technique":"ddp","devices":2,"class":"a","seconds":4200}]}]}
END
run 0 "$SATURN" simulate --table small.json --break-even --runs 12 --iterations 200 --error 0.5 --json
python3 - <<'END' || broken "break-even is not as it must be" out
import json
told = json.load(open("out"))
points = told["points"]
assert [p["varied"] for p in points] == ["interval"] * 4 + ["makespan"] * 7, points
assert points[-1]["pays"] and not points[4]["pays"], points
assert points[-1]["gain"] > 0.05 and told["pays_from_makespan_s"] <= points[-1]["seconds"], told
END
run 0 "$SATURN_SOURCE_DIR/tools/bench_simulate" ratios --saturn "$SATURN" --only txt-1x8
has out optimus-greedy published
run 2 "$SATURN_SOURCE_DIR/tools/bench_simulate" ratios --saturn "$SATURN" --only nothing-like-it
has err "no table"
