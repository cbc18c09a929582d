// Our own mistakes: printed with file and line, then abort.

#pragma once

namespace saturn {
[[noreturn]] void check_failed(const char* file, int line, const char* condition, const char* believed);
}

/// `SATURN_CHECK(cond, "what was believed")`: for what only a defect of Saturn can break.
#define SATURN_CHECK(condition, believed) \
  ((condition) ? void(0) : ::saturn::check_failed(__FILE__, __LINE__, #condition, believed))
