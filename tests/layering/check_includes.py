#!/usr/bin/env python3
"""The arrows of docs/STYLE.md and docs/ARCHITECTURE.md, held by reading every #include; no name stands for two functions.

Usage: check_includes.py ROOT; exit 1 and one line a violation."""
import pathlib
import re
import sys

# folder: the project folders its files may include
MAY_INCLUDE = {
    "base": {"base"},
    "model": {"base", "model"},
    "api": {"base", "api"},
    "server": {"base", "model", "api", "server"},
    "train": {"base", "model", "train"},
    "cli": {"base", "model", "api", "server", "train", "cli"},
}
# system header: the files (or folders, ending in /) that may see it
ONLY_IN = {
    "microhttpd.h": ["server/http/http.c"],
    "jansson.h": ["api/", "base/jval.c"],
    "cblas.h": ["model/encoder/blas.c"],
    "utf8proc.h": ["model/"],
    "openssl/": ["base/sha256.c"],
}
# The wings of a folder in arrow order: each may include itself and those after it.
WINGS = {
    "server": ["server", "server/http", "server/routes", "server/answer", "server/exchange", "server/queue",
               "server/heads", "server/metrics"],
    "model": ["model", "model/bulk", "model/heads", "model/encoder", "model/files", "model/text"],
    "train": ["train", "train/output", "train/run", "train/optimize", "train/measure", "train/network", "train/data"],
}
# Headers at the top of a folder that its wings may include: plain structs, no code behind them.
SHARED = {"server/settings.h": "server/metrics", "server/state.h": "server/exchange", "train/train.h": "train/run"}
# Includes that still run against the arrows; each has to be turned, none may be added.
BACKWARDS = set()
# A prototype at the beginning of a line: what stands before the name, and the name.
DECLARED = re.compile(r"^(?!static|typedef|return)[A-Za-z_](?:[\w \t\n*]*[\s*])?(\w+)\((?=[^;{}]*\)[^;{}]*;)", re.M)
INCLUDE = re.compile(r'^\s*#\s*include\s+[<"]([^>"]+)[>"]', re.M)


def allowed(path, places):
    return any(path == p or (p.endswith("/") and path.startswith(p)) for p in places)


def violations(root):
    for folder, may in MAY_INCLUDE.items():
        for file in sorted((root / folder).rglob("*.[ch]")):
            path = file.relative_to(root).as_posix()
            for header in INCLUDE.findall(file.read_text(encoding="utf-8")):
                top = header.split("/")[0]
                if top in MAY_INCLUDE and "/" in header and top not in may:
                    yield f"{path}: includes {header}; {folder}/ may include {', '.join(sorted(may))}"
                for system, places in ONLY_IN.items():
                    seen = header == system or (system.endswith("/") and header.startswith(system))
                    if seen and not allowed(path, places):
                        yield f"{path}: includes <{header}>, which only {', '.join(places)} may"


def wing(path):
    """The wing that a file belongs to, e.g. server/http; kernels/ belong to the wing above them."""
    folder = path.rsplit("/", 1)[0]
    top = path.split("/")[0]
    inside = [w for w in WINGS.get(top, []) if folder == w or folder.startswith(w + "/")]
    return max(inside, key=len) if inside else None


def backwards(root):
    """(file, header) of each include between wings that runs against the arrows."""
    for top, order in WINGS.items():
        for file in sorted((root / top).rglob("*.[ch]")):
            path = file.relative_to(root).as_posix()
            for header in INCLUDE.findall(file.read_text(encoding="utf-8")):
                if header.split("/")[0] != top or "/" not in header:
                    continue
                target = wing(SHARED.get(header, header) + ("/" if header in SHARED else ""))
                if order.index(target) < order.index(wing(path)):
                    yield path, header


def twins(root):
    """(function, headers) of each function that two headers declare: in static libraries the linker takes one for both."""
    declared = {}
    for folder in MAY_INCLUDE:
        for file in sorted((root / folder).rglob("*.h")):
            for name in set(DECLARED.findall(file.read_text(encoding="utf-8"))):
                declared.setdefault(name, []).append(file.relative_to(root).as_posix())
    return [(name, headers) for name, headers in declared.items() if len(headers) > 1]


def main():
    root = pathlib.Path(sys.argv[1])
    found = list(violations(root))
    against = set(backwards(root))
    found += [f"{path}: includes {header} against the arrows between wings" for path, header in sorted(against - BACKWARDS)]
    found += [f"{path}: no longer includes {header}; strike it from BACKWARDS" for path, header in sorted(BACKWARDS - against)]
    found += [f"{name}() is declared in {' and in '.join(headers)}" for name, headers in twins(root)]
    print("\n".join(found) if found else "layering: every include follows the arrows")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
