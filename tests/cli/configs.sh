# Every batch in configs/ is without a fault once its data is there, and opens by saying what it shows.
cp "$SATURN_SOURCE_DIR"/configs/*.toml .
mkdir -p data/fineweb10B
for _ in {1..400}; do printf 'In the beginning God created the heaven and the earth.\n%.0s' {1..50}; done >data/kjv.txt
for digit in {0..9}; do
  mkdir -p "data/digits/$digit"
  for index in {1..10}; do cp "$SATURN_SOURCE_DIR/tests/golden/fuzz_images/grey.png" "data/digits/$digit/$index.png"; done
done
head -c 16000000 /dev/zero >data/fineweb10B/fineweb_train_000001.bin
head -c 4000000 /dev/zero >data/fineweb10B/fineweb_val_000000.bin
for config in *.toml; do
  [[ $(head -c 2 "$config") == "# " ]] || broken "$config does not open with a comment" "$config"
  run 0 "$SATURN" validate "$config"
  has out "no fault"
done
run 2 "$SATURN" validate "$SATURN_SOURCE_DIR/tests/cli/no-such.toml"
has err "no-such.toml"
