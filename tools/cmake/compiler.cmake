# How everything is compiled: language level, warnings, sanitizers, ccache, and a pool that keeps at most two
# heavy compilations (about 1.5 GB each) running at once.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR})
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR})
set_property(GLOBAL PROPERTY JOB_POOLS heavy=2)

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()

find_program(SATURN_CCACHE ccache)
if(SATURN_CCACHE)
  # The same sources give the same objects in every clone, precompiled header included.
  set(CMAKE_CXX_COMPILER_LAUNCHER
      ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_ctime,include_file_mtime
      CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} CCACHE_NOHASHDIR=1 ${SATURN_CCACHE})
  add_compile_options($<$<CXX_COMPILER_ID:GNU>:-fpch-preprocess>)
endif()

add_compile_options(-Wall -Wextra -Wno-missing-field-initializers)
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 14)
  add_compile_options(-Wno-restrict)  # false alarm on std::string's operator+ (GCC bug 105651)
endif()
if(SATURN_WERROR)
  add_compile_options(-Werror)
endif()
if(SATURN_SANITIZE)
  add_compile_options(-fsanitize=${SATURN_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${SATURN_SANITIZE})
endif()
if(SATURN_FUZZERS)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
