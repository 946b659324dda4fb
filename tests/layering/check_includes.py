#!/usr/bin/env python3
"""The arrows of docs/STYLE.md, held by reading every #include; and docs/ARCHITECTURE.md names every file.

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
    "cblas.h": ["model/encoder/kernels/", "train/"],
    "utf8proc.h": ["model/"],
    "openssl/": ["base/sha256.c"],
}
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


def unnamed(root):
    """Source files that docs/ARCHITECTURE.md does not name under their folder's heading."""
    text = (root / "docs/ARCHITECTURE.md").read_text(encoding="utf-8")
    for folder in MAY_INCLUDE:
        for file in sorted((root / folder).rglob("*.[ch]")):
            section = text.split(f"### {file.parent.relative_to(root).as_posix()}/\n")
            if len(section) < 2:
                section = text.split(f"### {folder}/\n")
            body = section[-1].split("\n### ")[0]
            if not re.search(rf"[`/]{re.escape(file.stem)}`", body):
                yield f"{file.relative_to(root)}: not named in docs/ARCHITECTURE.md"


def main():
    root = pathlib.Path(sys.argv[1])
    found = list(violations(root)) + sorted(set(unnamed(root)))
    print("\n".join(found) if found else "layering: every include follows the arrows")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
