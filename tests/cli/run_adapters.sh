# A stored model is fine-tuned by adapters and with frozen layers; what the run leaves is exported and gone on from.
[[ $SATURN_TRAIN == 1 ]] || skip "this build cannot train"
printf 'In the beginning was the word, line %d.\n' {1..400} >text.txt
head='[devices]
cpu_slots = 2
threads_per_slot = 1
oversubscribe = true
[data.words]
kind = "text"
path = "text.txt"
sequence_length = 32
[run]
checkpoint_every = 3
keep_checkpoints = 3
'
job() {
  printf '[[job]]\nname = "%s"\nmodel = "%s"\ndata = "words"\nbatch_size = 4\nsteps = 6\nevaluate_every = 3\ntechniques = ["%s"]\noptimizer.lr = %s\n%s\n' "$@"
}
{ printf '[batch]\nname = "base"\n%s' "$head"; job base gpt2-toy single 1e-2 ""; } >base.toml
run 0 "$SATURN" run base.toml
{
  printf '[batch]\nname = "tuned"\n%s' "$head"
  job adapted runs/base/jobs/base/model ddp 1e-2 'lora = {rank = 4, alpha = 8, targets = ["c_attn", "c_fc"]}'
  job frozen runs/base/jobs/base/model fsdp 1e-2 'freeze = ["transformer.wte", "transformer.h.0"]'
} >tuned.toml
run 0 "$SATURN" run tuned.toml
adapted=runs/tuned/jobs/adapted
has $adapted/adapter/adapter_config.json '"r": 4' '"fan_in_fan_out": true' '"base_model_name_or_path": "/'
[[ ! -e runs/tuned/jobs/frozen/adapter ]] || broken "a job without adapters has left some"

# Out of the run: the adapter that the job left, and those of a checkpoint apart and merged.
loss_of() {
  run 0 "$SATURN" eval "$1" --text text.txt --json
  sed -n 's/.*"loss": \([0-9.]*\).*/\1/p' out
}
near() {
  awk -v a="$1" -v b="$2" 'BEGIN { exit !(a > 0 && (a - b)^2 < 1e-9) }'
}
run 0 "$SATURN" export runs/tuned adapted last --adapter
cmp last/adapter_model.safetensors $adapted/adapter/adapter_model.safetensors
run 0 "$SATURN" export runs/tuned adapted third --adapter --step 3
! cmp -s third/adapter_model.safetensors last/adapter_model.safetensors || broken "step 3 is the last"
run 0 "$SATURN" export runs/tuned adapted merged --step 3
merged=$(loss_of merged)
! near "$merged" "$(loss_of $adapted/model)" || broken "step 3 is as good as the last: $merged"
run 2 "$SATURN" export runs/tuned frozen none --adapter
has err "trained no adapter"

# Gone on from, with steps that move nothing, the adapter of step 3 is what was merged; its rank is its own.
{
  printf '[batch]\nname = "more"\n%s' "$head"
  job further runs/base/jobs/base/model single 1e-9 'lora.start = "third"'
} >more.toml
run 0 "$SATURN" run more.toml
has runs/more/jobs/further/adapter/adapter_config.json '"r": 4' '"c_fc"'
further=$(loss_of runs/more/jobs/further/model)
near "$merged" "$further" || broken "the loss of step 3 is $merged, and $further where it goes on"
