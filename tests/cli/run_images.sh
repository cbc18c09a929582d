# A ViT and a ResNet are measured, trained on folders and shards of images with a corrupt one among them, and give back
# models that eval reads.
[[ $SATURN_TRAIN == 1 ]] || skip "this build cannot train"
corpus=$SATURN_SOURCE_DIR/tests/golden/fuzz_images
mkdir -p pictures/colour pictures/grey
for i in {10..29}; do
  cp "$corpus/colour.png" "pictures/colour/$i.png"
  cp "$corpus/grey.jpg" "pictures/grey/$i.jpg"
done
cp "$corpus/cut.jpg" pictures/colour/15.png
cat >batch.toml <<END
[batch]
name = "pictures"
[devices]
cpu_slots = 2
threads_per_slot = 1
oversubscribe = true
[data.folder]
kind = "images"
path = "pictures"
image_size = 16
validation = 0.2
[data.shards]
kind = "images"
path = "shard-*.tar"
image_size = 32
validation = 0.2
[[job]]
name = "vit"
model = "vit-toy"
data = "folder"
epochs = 4
batch_size = 8
techniques = ["single", "pipeline"]
optimizer.lr = 1e-3
[[job]]
name = "resnet"
model = "resnet-toy"
data = "shards"
epochs = 4
batch_size = 8
techniques = ["single", "ddp"]
[job.optimizer]
kind = "sgd"
lr = 0.05
momentum = 0.9
END
run 2 "$SATURN" validate batch.toml
has err "shard-*.tar" "a folder with one folder for each class, or tar shards"
for label in 0 1; do
  class=$([[ $label == 0 ]] && echo colour || echo grey)
  mkdir "shard-$label"
  for file in pictures/"$class"/*; do
    cp "$file" "shard-$label/$class-${file##*/}"
    name=${file##*/}
    printf '%s\n' "$label" >"shard-$label/$class-${name%.*}.cls"
  done
  tar --sort=name -cf "shard-$label.tar" "shard-$label"
done
run 0 "$SATURN" validate batch.toml
has out "32 training and 8 validation samples of 2 classes, 16 pixels a side"
run 0 "$SATURN" run batch.toml
has out vit resnet done accuracy
run 0 "$SATURN" run batch.toml --json
has out '"accuracy": ' '"accuracy_top5": ' '"class_frequency_loss": '
for job in vit resnet; do
  has "runs/pictures/jobs/$job/metrics.jsonl" '"validation_accuracy"' '"data_time_s"'
done
has runs/pictures/events.jsonl '"corrupt_samples"' "could not be read"
run 0 "$SATURN" best runs/pictures --metric accuracy
run 0 "$SATURN" export runs/pictures resnet exported --dtype bf16
run 2 "$SATURN" eval exported --images pictures
has err "these folders are no class: colour, grey"
run 0 "$SATURN" eval exported --images shard-1.tar --json
has out '"accuracy"' '"count": 20'
run 0 "$SATURN" eval runs/pictures/jobs/vit/model --images pictures --logits logits.safetensors
has out "over 40 images"
run 2 "$SATURN" eval exported --text batch.toml
has err "this model reads images" "--images PATH"
# The exported model with a new head for other classes, and without.
mkdir -p others/a others/b others/c
for class in a b c; do for i in {10..19}; do cp "$corpus/colour.png" "others/$class/$i.png"; done; done
cat >tuned.toml <<END
[batch]
name = "tuned"
[devices]
cpu_slots = 1
[data.others]
kind = "images"
path = "others"
image_size = 32
[[job]]
name = "resnet"
model = "exported"
data = "others"
steps = 3
batch_size = 8
new_head = NEW
optimizer.lr = 1e-3
END
sed s/NEW/false/ tuned.toml >stored.toml
run 2 "$SATURN" validate stored.toml
has err "tells 2 classes apart" "has 3" "set new_head = true"
sed -i s/NEW/true/ tuned.toml
run 0 "$SATURN" run tuned.toml
has out done
