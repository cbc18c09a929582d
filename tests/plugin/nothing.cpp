// A shared object without a technique.

extern "C" int nothing_at_all() {
  return 0;
}
