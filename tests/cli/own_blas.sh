# LibTorch's matrix products are its own in a worker: those of the planner's solver are ten times as slow.
[[ $SATURN_TRAIN == 1 ]] || skip "this build does not train"
run 0 env LD_DEBUG=bindings "$SATURN" worker --about
grep -F 'libtorch_cpu.so [0] to ' err | grep -F "normal symbol \`sgemm_'" >bound || broken "no binding of sgemm_" out
has bound "to $(sed -n "s/.*binding file \(.*libtorch_cpu.so\) \[0\] to .*/\1/p" bound | head -n 1) "
lacks bound libblas
