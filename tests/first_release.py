"""The program of 0.1.0, built from the history: what stands beside this build in a roll of releases."""

import os
import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
RELEASE = "cf57f42"  # the last commit of 0.1.0


def program():
    """Built once, below the build folder; the test is skipped where the history is too short."""
    folder = pathlib.Path(os.environ.get("ORTHRUS_BUILD_DIR", ROOT / "build")) / f"release-{RELEASE}"
    made = folder / "build" / "orthrus"
    if made.exists():
        return str(made)
    if not shutil.which("git") or subprocess.run(["git", "-C", ROOT, "cat-file", "-e", f"{RELEASE}^{{commit}}"], capture_output=True).returncode:
        pytest.skip(f"no git, or no {RELEASE} in the history (a shallow clone?): git fetch --unshallow")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    archive = subprocess.run(["git", "-C", ROOT, "archive", RELEASE], check=True, stdout=subprocess.PIPE)
    subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
    # Nothing but the program: the tests of then are no concern here.
    subprocess.run(["cmake", "-S", folder, "-B", folder / "build", "--log-level=WARNING"], check=True)
    subprocess.run(["cmake", "--build", folder / "build", "--parallel", str(os.cpu_count()), "--target", "orthrus"],
                   check=True)
    return str(made)
