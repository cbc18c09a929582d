# LibTorch from the torch wheel that tools/setup put into the cache: c10 and torch_cpu, and with SATURN_CUDA
# also c10_cuda and torch_cuda. Written by hand because the wheel's own CMake files want a CUDA toolkit.

set(SATURN_LIBTORCH "" CACHE PATH "the directory of the torch package (with lib/ and include/); empty: from SATURN_DEPS")
if(SATURN_LIBTORCH)
  set(libtorch_dir ${SATURN_LIBTORCH})
else()
  if(SATURN_DEPS)
    set(libtorch_cache ${SATURN_DEPS})
  else()
    set(libtorch_cache $ENV{HOME}/.cache/saturn)
  endif()
  file(GLOB libtorch_dirs LIST_DIRECTORIES true ${libtorch_cache}/venv/lib/python3*/site-packages/torch)
  list(POP_BACK libtorch_dirs libtorch_dir)
endif()
if(NOT EXISTS "${libtorch_dir}/lib/libtorch_cpu.so")
  message(FATAL_ERROR "LibTorch was not found under \"${libtorch_cache}${SATURN_LIBTORCH}\"\n"
          "  expected: venv/lib/python3*/site-packages/torch/lib/libtorch_cpu.so\n"
          "  fix: run tools/setup, or pass -DSATURN_DEPS=DIR, or -DSATURN_TRAIN=OFF to build the planner only")
endif()
file(STRINGS ${libtorch_dir}/version.py libtorch_version REGEX "^__version__")
if(NOT libtorch_version MATCHES "'2\\.11\\.")
  message(FATAL_ERROR "LibTorch in ${libtorch_dir} says ${libtorch_version}\n  expected: 2.11\n  fix: run tools/setup")
endif()
message(STATUS "LibTorch: ${libtorch_dir}")

# The wheel's libraries find NVIDIA's by their own RPATH; only the linker must be told where they are.
file(GLOB libtorch_nvidia_dirs LIST_DIRECTORIES true ${libtorch_dir}/../nvidia/*/lib)
set(libtorch_rpath_link "")
foreach(dir IN LISTS libtorch_nvidia_dirs)
  list(APPEND libtorch_rpath_link "LINKER:-rpath-link,${dir}")
endforeach()

function(saturn_import_torch name)
  cmake_parse_arguments(ARG "" "" "DEFINITIONS;LIBRARIES" ${ARGN})
  add_library(${name} SHARED IMPORTED GLOBAL)
  set_target_properties(${name} PROPERTIES
    IMPORTED_LOCATION ${libtorch_dir}/lib/lib${name}.so
    INTERFACE_INCLUDE_DIRECTORIES "${libtorch_dir}/include;${libtorch_dir}/include/torch/csrc/api/include"
    INTERFACE_COMPILE_DEFINITIONS "${ARG_DEFINITIONS}"
    INTERFACE_LINK_LIBRARIES "${ARG_LIBRARIES}")
endfunction()

saturn_import_torch(c10)
saturn_import_torch(torch_cpu DEFINITIONS USE_DISTRIBUTED USE_C10D_GLOO LIBRARIES c10)
target_link_options(torch_cpu INTERFACE ${libtorch_rpath_link})

if(SATURN_CUDA)
  if(NOT EXISTS ${libtorch_dir}/lib/libtorch_cuda.so)
    message(FATAL_ERROR "SATURN_CUDA is on and ${libtorch_dir}/lib/libtorch_cuda.so is missing\n  fix: run tools/setup without --cpu")
  endif()
  # Headers of NVIDIA's wheels beside torch, for the sources that ask for them.
  file(GLOB libtorch_cuda_includes LIST_DIRECTORIES true ${libtorch_dir}/../nvidia/cu13/include ${libtorch_dir}/../nvidia/nccl/include)
  saturn_import_torch(c10_cuda LIBRARIES c10)
  saturn_import_torch(torch_cuda LIBRARIES c10_cuda torch_cpu)
  # Without a direct reference the linker would drop the library, and its kernels would never register.
  target_link_options(torch_cuda INTERFACE "LINKER:--no-as-needed,${libtorch_dir}/lib/libtorch_cuda.so,--as-needed")
endif()
