# The include check passes on this tree and names file, line and column where a rule is broken.
check=$SATURN_SOURCE_DIR/tools/check_includes.py
run 0 "$check"

mkdir -p src/plan src/base src/cli include/saturn/view
printf '#include "saturn/base/json.h"\n#include <ATen/ATen.h>\n' >src/plan/solve.cpp
printf '#include "plan/model.h"\n' >src/base/text.cpp
printf '// a gantt\n#include "saturn/worker/launcher.h"\n' >include/saturn/view/gantt.h
printf '#include "CLI/App.hpp"\n#include <sys/mman.h>\n#include <boost/asio.hpp>\n' >src/cli/plan.cpp
run 1 "$check" .
has out "src/plan/solve.cpp:2:10: error: ATen/ATen.h belongs to a library" \
  "src/base/text.cpp:1:10: error: plan/model.h is private to module plan" \
  "include/saturn/view/gantt.h:2:10: error: saturn/worker/launcher.h is of module worker" \
  "src/cli/plan.cpp:1:10: error: CLI/App.hpp belongs to a library that stays in src/cli/main.cpp" \
  "src/cli/plan.cpp:3:10: error: boost/asio.hpp belongs to a library that has no place yet"
lacks out "solve.cpp:1:" "plan.cpp:2:"
