"""Programs of the npm registry, pinned, kept under the cache folder."""

import functools
import os
import pathlib
import shutil
import subprocess


class Missing(Exception):
    """Why the packages are not there."""


@functools.cache
def npm_packages(name, *packages):
    """The node_modules folder that holds these packages (name@version each); installed once under that name."""
    if not shutil.which("node") or not shutil.which("npm"):
        raise Missing("Node.js with npm is not installed")
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
    folder = cache / "orthrus" / "npm" / name
    wanted = "\n".join(packages)
    done = folder / "installed"
    if not done.exists() or done.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "package.json").write_text('{"private": true}')
        made = subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *packages],
                              cwd=folder, capture_output=True, text=True, check=False)
        if made.returncode != 0:
            raise Missing(f"npm could not install {name}: {made.stderr[-300:]}")
        done.write_text(wanted)
    return folder / "node_modules"
