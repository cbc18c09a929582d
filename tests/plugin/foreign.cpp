// A technique of another build: whoever calls its second symbol has not looked at the first.

#include <cstdlib>

extern "C" const char* saturn_technique_abi() {
  return "saturn 0.0.1";
}

extern "C" void saturn_technique(void*) {
  std::abort();
}
