// doctest beside LibTorch, whose logging header takes the same macro names.

#pragma once

#include <ATen/ATen.h>
#include <c10/util/Logging.h>

#undef CHECK
#undef CHECK_EQ
#undef CHECK_NE
#undef CHECK_LE
#undef CHECK_LT
#undef CHECK_GE
#undef CHECK_GT
#undef CHECK_OP

#include <doctest/doctest.h>
