# A plan is drawn as text that fits, shown again from its file, checked, and compared.
cat >table.json <<'JSON'
{"nodes": [{"name": "n0", "devices": 2, "class": "cpu"}],
 "jobs": [{"name": "wide", "configs": [{"technique": "ddp", "devices": 2, "class": "cpu", "seconds": 40}]},
          {"name": "left", "configs": [{"technique": "single", "devices": 1, "class": "cpu", "seconds": 30}]},
          {"name": "right", "configs": [{"technique": "single", "devices": 1, "class": "cpu", "seconds": 30}]}]}
JSON
run 0 env LC_ALL=C COLUMNS=60 "$SATURN" plan --table table.json --iterations 1000 --out plan.json
has out "ddp x2" "makespan     70.0 s" "gap          0.00 %, optimal" "n0:0 |["
[[ $(wc -L <out) -le 60 ]] || broken "wider than COLUMNS" out
run 0 env LC_ALL=C.UTF-8 COLUMNS=60 "$SATURN" show plan.json
has out "│├" "wide ddp x2"
run 0 "$SATURN" show plan.json --table
[[ $(wc -l <out) == 4 ]] || broken "--table prints a line per job under its titles" out
run 0 "$SATURN" check plan.json --table table.json
has out "3 assignments, makespan 70.0 s"

sed 's/"start_s": 0.0/"start_s": 1.0/' plan.json >shifted.json
run 2 "$SATURN" check shifted.json
has err "shifted.json#/"
run 0 "$SATURN" diff plan.json plan.json
has out "No job is planned differently."
run 10 "$SATURN" diff plan.json shifted.json --detailed-exitcode
has out "times"
run 2 "$SATURN" show table.json
has err "no artefact of saturn"
run 2 "$SATURN" report nowhere
has err "nowhere"
