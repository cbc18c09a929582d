# The installed tree runs after it was moved, away from the checkout and from the folder it was installed to.
run 0 cmake --install "$SATURN_BINARY_DIR" --prefix "$PWD/first"
mv first second
run 0 second/bin/saturn --version
has out "saturn "
[[ -s second/share/saturn/configs/kjv-sweep.toml ]] || broken "no configs in share" out
# Of the system it takes the C and C++ runtime alone.
run 0 ldd second/bin/saturn
has out "=> $PWD/second/bin/../lib/libCbcSolver.so"
runtime='^[[:space:]]*(linux-vdso|/lib64/ld-linux|lib(c|m|dl|rt|pthread|gcc_s|stdc[+][+])[.]so)'
awk -v own="=> $PWD/second/bin/../lib/" -v runtime="$runtime" 'index($0, own) == 0 && $0 !~ runtime' out >others
[[ ! -s others ]] || broken "taken from the system" others
if [[ $SATURN_TRAIN == 1 ]]; then
  run 0 ldd second/lib/libsaturn_train.so
  has out "second/lib/../torch/lib/libtorch_cpu.so"
  lacks out "not found"
  # LibTorch lies where the tree says, else where the user says, and is the right one.
  torch=$(readlink second/torch)
  rm second/torch
  run 2 second/bin/saturn worker --about
  has err "the training library cannot be loaded: libtorch_" "SATURN_LIBTORCH"
  SATURN_LIBTORCH=$torch run 0 second/bin/saturn worker --about
  has out '"libtorch": "2.11'
  SATURN_LIBTORCH=$PWD run 2 second/bin/saturn worker --about
  has err "$PWD: error: this is no torch package"
  echo "__version__ = '2.1.0'" >version.py
  SATURN_LIBTORCH=$PWD run 2 second/bin/saturn worker --about
  has err "version.py: error: this torch is not version 2.11"
  echo "__version__ = '2.11.0'" >version.py
  SATURN_LIBTORCH=$PWD run 2 second/bin/saturn worker --about
  has err "lib/libc10.so: error: it cannot be loaded"
fi
