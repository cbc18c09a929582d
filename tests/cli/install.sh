# The installed tree runs after it was moved, away from the checkout and from the folder it was installed to.
run 0 cmake --install "$SATURN_BINARY_DIR" --prefix "$PWD/first"
mv first second
run 0 second/bin/saturn --version
has out "saturn "
[[ -s second/share/saturn/configs/kjv-sweep.toml ]] || broken "no configs in share" out
if [[ $SATURN_TRAIN == 1 ]]; then
  run 0 ldd second/lib/libsaturn_train.so
  has out libtorch_cpu.so
  lacks out "not found"
fi
