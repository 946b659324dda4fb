"""Programs written in Go, from the module proxy, kept under the cache folder."""

import functools
import os
import pathlib
import shutil
import subprocess


class Missing(Exception):
    """Why the program is not there."""


@functools.cache
def go_tool(package):
    """The path of the program that package (module path@version) builds; one in PATH comes first."""
    path, version = package.rsplit("@", 1)
    parts = path.split("/")
    name = parts[-2] if parts[-1][0] == "v" and parts[-1][1:].isdigit() else parts[-1]
    found = shutil.which(name)
    if found:
        return found
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
    folder = cache / "orthrus" / "tools" / version
    if not (folder / name).exists():
        if not shutil.which("go"):
            raise Missing(f"{name} is not installed, and there is no go to build it with")
        done = subprocess.run(["go", "install", package], capture_output=True, text=True,
                              env={**os.environ, "GOBIN": str(folder)}, check=False)
        if done.returncode != 0:
            raise Missing(f"{name} could not be built: {done.stderr[-300:]}")
    return str(folder / name)
