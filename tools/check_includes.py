#!/usr/bin/env python3
"""Checks that each module includes only what its place in the data flow allows, and prints the offending lines.

A module may include the modules named beside it, what those may include, and base. Of another module it sees the
contracts (include/saturn/<module>), never the private headers. Libraries stay in the modules that wrap them, so
that the controller neither sees LibTorch nor depends on a parser.
"""

import pathlib
import re
import sys

MODULES = {
    "base": [],
    "formats": [],
    "text": ["formats"],
    "devices": [],
    "batch": ["formats", "text", "devices"],
    "checkpoint": ["batch"],
    "worker": ["batch"],
    "plan": [],
    "profile": ["batch", "worker", "plan"],
    "journal": ["batch", "plan"],
    "run": ["profile", "plan", "journal", "worker", "checkpoint", "search"],
    "verify": ["profile", "checkpoint", "worker"],
    "search": ["journal"],
    "simulate": ["run"],
    "view": ["journal", "plan"],
    "data": ["formats", "batch"],
    "train": ["data", "worker", "checkpoint"],
    "techniques": ["train"],
    "models": ["train"],
    "cli": ["run", "search", "simulate", "verify", "view"],
}

TORCH = ["data", "train", "techniques", "models"]
COIN = ["src/plan/coin.cpp"]
LIBRARIES = {  # how a library's headers begin: the modules, or the only files, that may include them
    "ATen": TORCH,
    "c10": TORCH,
    "caffe2": TORCH,
    "torch": TORCH,
    "cuda_runtime.h": TORCH,
    "cuda_runtime_api.h": TORCH,
    "nccl.h": TORCH,
    "gloo": ["train"],
    "coin": COIN,
    "Cbc": COIN,
    "Cgl": COIN,
    "Clp": COIN,
    "Coin": COIN,
    "Osi": COIN,
    "CLI": ["src/cli/main.cpp"],
    "toml++": ["src/batch/toml_document.cpp"],
    "nlohmann": ["include/saturn/base/json.h"],
    "spdlog": ["src/base/process.cpp"],
    "xxhash.h": ["src/base/digest.cpp"],
    "sentencepiece_processor.h": ["text"],
    "pcre2.h": ["text"],
    "jpeglib.h": ["formats"],
    "png.h": ["formats"],
}
SYSTEM = {"arpa", "asm", "linux", "net", "netinet", "sys"}  # folders of the C library and the kernel

# The registries that a list of entries is made from; they hold names, not code.
REGISTRIES = {"models/registry.def", "techniques/registry.def", "cli/registry.def"}
INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]')


def reachable(module):
    seen = {"base", module}
    ahead = list(MODULES[module])
    while ahead:
        one = ahead.pop()
        if one not in seen:
            seen.add(one)
            ahead += MODULES[one]
    return seen


def starts(header, start):
    """Whether `header` is of the library: in its folder, that very file, or (COIN's) with its prefix and a capital."""
    return header == start or header.startswith(start + "/") or re.match(re.escape(start) + "[A-Z_].*[.]hp?p?$", header)


def fault(module, name, quote, header):
    """What is wrong with `header` in file `name` of `module`, and what was expected; or None."""
    parts = header.split("/")
    if parts[0] == "saturn":
        if len(parts) < 3 or parts[1] not in MODULES:
            return "is no contract of a module", "saturn/<module>/<name>.h"
        allowed = reachable(module)
        if parts[1] not in allowed:
            return f"is of module {parts[1]}", f"{module} includes only {', '.join(sorted(allowed - {module}))}"
        return None
    if quote == '"' and (header in REGISTRIES or parts[0] == module):
        return None
    if quote == '"' and parts[0] in MODULES and len(parts) > 1:
        return f"is private to module {parts[0]}", f"a header of include/saturn/{parts[0]}"
    places = next((where for start, where in LIBRARIES.items() if starts(header, start)), None)
    if places is not None and module not in places and name not in places:
        return f"belongs to a library that stays in {', '.join(places)}", "the contract of that module"
    if places is None and quote == "<" and len(parts) > 1 and parts[0] not in SYSTEM:
        return "belongs to a library that has no place yet", "a line in LIBRARIES of tools/check_includes.py"
    return None


def sources(root):
    """Every C++ file, with the module that it belongs to."""
    for top in ("include/saturn", "src", "models"):
        for path in sorted((root / top).rglob("*")):
            if path.suffix in {".h", ".hpp", ".cpp", ".cc", ".cu"}:
                yield path, "models" if top == "models" else path.relative_to(root / top).parts[0]


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[1]).resolve()
    faults = 0
    checked = 0
    for path, module in sources(root):
        name = path.relative_to(root)
        if module not in MODULES:
            print(f"{name}:1:1: error: {module} is not a module\n  expected: one of {', '.join(MODULES)}")
            faults += 1
            continue
        checked += 1
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            match = INCLUDE.match(line)
            found = match and fault(module, str(name), *match.groups())
            if found:
                print(f"{name}:{number}:{match.start(1) + 1}: error: {match.group(2)} {found[0]}\n  expected: {found[1]}")
                faults += 1
    if checked == 0:
        print(f"{root}: error: no source was found\n  expected: include/saturn, src and models")
        return 2
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
