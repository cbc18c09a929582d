# eval reads a model directory and says what is wrong with the rest.
run 2 "$SATURN" eval nowhere
has err "no file to evaluate on is named" "saturn eval nowhere --tokens FILE"
run 2 "$SATURN" eval nowhere --text a --tokens b
has err "several files to evaluate on are named"
run 2 "$SATURN" eval nowhere --text a --resize 8
has err "--resize 8 is set without --images"
run 2 "$SATURN" eval nowhere --tokens b --sequence-length 0
has err "--sequence-length 0 is no length"
run 0 "$SATURN" eval --help
has out "--logits FILE"

[[ $SATURN_TRAIN == 1 ]] || skip "this build has no training library"
printf 'In the beginning God created the heaven and the earth.' >text
run 2 "$SATURN" eval nowhere --text text
has err "nowhere: error: this is not a directory"
mkdir model
printf '%s' '{"model_type": "gpt2", "n_layer": 1, "n_head": 1, "n_embd": 8, "vocab_size": 300, "n_positions": 16}' \
  >model/config.json
printf 'PK\003\004' >model/pytorch_model.bin
run 2 "$SATURN" eval model --text text
has err "pickled" "model.safetensors" "save_pretrained"
printf '\002\000\000\000\000\000\000\000{}' >model/model.safetensors
run 2 "$SATURN" eval model --text text
has err "16 tensors of a gpt2 model are missing: transformer.wte.weight, "
run 2 "$SATURN" eval model --text text --sequence-length 17
has err "sequences of 17 tokens are too long" "pass --sequence-length 16"
run 2 "$SATURN" eval model --text missing
has err "missing: error: cannot read"
printf 'x' >short
run 2 "$SATURN" eval model --text short
has err "there are 1 tokens"
touch model/tokenizer.json
run 2 "$SATURN" eval model --text text
has err "model/tokenizer.json:1:1: error: "
