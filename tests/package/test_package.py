"""What `cmake --install` lays out, the systemd unit, and (ORTHRUS_FULL=1) the Debian package in a chroot."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest
from conftest import TINY

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("ORTHRUS_BUILD_DIR", ROOT / "build"))
FULL = os.environ.get("ORTHRUS_FULL", "0") == "1"


def run(*command, **options):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The prefix of an installation."""
    root = tmp_path_factory.mktemp("installed")
    run("cmake", "--install", BUILD, env={**os.environ, "DESTDIR": str(root)})
    return root / "usr" / "local"


def test_the_program_runs_from_where_it_is_installed(installed):
    assert run(installed / "bin" / "orthrus", "--version").startswith("orthrus ")
    heads = installed / "share" / "orthrus" / "heads" / "default.safetensors"
    assert "classifier" in run(installed / "bin" / "orthrus", "inspect", heads)


def test_it_finds_the_heads_installed_with_it(installed, tmp_path):
    """The shipped heads do not fit the tiny model: the warning names the file that was found."""
    bare = tmp_path / "bare"
    shutil.copytree(TINY, bare, ignore=shutil.ignore_patterns("heads.safetensors", "variant*", "expected*"))
    process = subprocess.Popen([installed / "bin" / "orthrus", "serve", "--model", bare, "--listen", "127.0.0.1:0",
                                "--admin-listen", "off", "--log-format", "json"], stderr=subprocess.PIPE, text=True)
    lines = []
    for line in process.stderr:
        lines.append(line)
        if '"ready"' in line:
            break
    process.terminate()
    process.communicate()
    assert any("share/orthrus/heads/default.safetensors" in line for line in lines), lines


def test_tools_are_installed_whole(installed):
    for tool in ("fetch-model", "push-heads"):
        link = installed / "bin" / f"orthrus-{tool}"
        assert link.is_symlink() and "usage" in run(link, "--help").lower()
    for name in ("openapi.json", "openapi.yaml", "monitoring/orthrus.json", "monitoring/alerts.yml"):
        assert (installed / "share" / "orthrus" / name).stat().st_size > 1000


def test_every_command_has_a_manual_page_and_is_completed(installed):
    said = run(installed / "bin" / "orthrus", "--help")
    commands = re.findall(r"^  ([a-z-]+) ", said, re.M)
    assert {"serve", "embed", "train"} <= set(commands)
    pages = {page.name for page in (installed / "share" / "man" / "man1").iterdir()}
    assert pages == {"orthrus.1", *(f"orthrus-{command}.1" for command in commands)}
    serve = (installed / "share" / "man" / "man1" / "orthrus-serve.1").read_text()
    assert serve.startswith(".TH") and r"max\-queue\-tokens" in serve
    for script in ("bash-completion/completions/orthrus", "zsh/vendor-completions/_orthrus", "fish/vendor_completions.d/orthrus.fish"):
        text = (installed / "share" / script).read_text()
        assert all(command in text for command in commands) and "max-queue-tokens" in text, script
    if shutil.which("bash"):
        script = installed / "share" / "bash-completion" / "completions" / "orthrus"
        tried = f"source {script}; complete -p orthrus"
        assert "orthrus" in run("bash", "-c", tried)


def test_the_settings_file_names_flags(installed):
    text = (installed / "etc" / "orthrus" / "orthrus.env").read_text()
    names = set(re.findall(r"^#?(ORTHRUS_\w+)=", text, re.M))
    known = run(installed / "bin" / "orthrus", "serve", "--help")
    flags = {f"ORTHRUS_{flag.upper().replace('-', '_')}" for flag in re.findall(r"--([a-z][a-z-]+)", known)}
    assert names and names <= flags


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_the_unit_is_valid_and_locked_down(installed, tmp_path):
    text = (installed / "lib" / "systemd" / "system" / "orthrus.service").read_text()
    assert "ExecStart=/usr/local/bin/orthrus serve" in text and "Type=notify" in text
    unit = tmp_path / "orthrus.service"
    unit.write_text(text.replace("/usr/local/bin/orthrus", str(installed / "bin" / "orthrus")))
    said = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False)
    assert "orthrus.service" not in said.stderr, said.stderr
    judged = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager", unit], capture_output=True, text=True,
                            check=False)
    if "offline" in judged.stderr:
        pytest.skip("this systemd-analyze has no --offline")
    exposure = float(re.search(r"Overall exposure level .*: ([\d.]+)", judged.stdout)[1])
    assert exposure <= 2.0, judged.stdout


# -- the .deb -----------------------------------------------------------------------------------


def cannot_chroot():
    if not FULL:
        return "ORTHRUS_FULL=1 builds the package and a chroot"
    if os.geteuid() != 0:
        return "not root"
    absent = [tool for tool in ("cpack", "dpkg-deb", "dpkg-shlibdeps", "debootstrap", "unshare", "chroot") if not shutil.which(tool)]
    return f"not installed: {' '.join(absent)}" if absent else None


deb_only = pytest.mark.skipif(cannot_chroot() is not None, reason=str(cannot_chroot()))


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    folder = tmp_path_factory.mktemp("package")
    run("cmake", "--preset", "package", "--log-level=WARNING", cwd=ROOT)
    run("cmake", "--build", ROOT / "build-package", "--parallel", os.cpu_count())
    run("cpack", "-G", "DEB", "-B", folder, cwd=ROOT / "build-package")
    (deb,) = folder.glob("orthrus_*.deb")
    return deb


@deb_only
def test_package_says_what_it_needs_and_holds(package):
    fields = run("dpkg-deb", "--field", package)
    for name in ("libmicrohttpd12", "libjansson4", "libssl3", "libutf8proc2", "adduser"):
        assert name in fields, fields
    listing = run("dpkg-deb", "--contents", package)
    for path in ("./usr/bin/orthrus", "./usr/lib/systemd/system/orthrus.service", "./etc/orthrus/orthrus.env",
                 "./usr/share/orthrus/heads/default.safetensors", "./usr/share/man/man1/orthrus-serve.1",
                 "./usr/share/bash-completion/completions/orthrus", "./usr/bin/orthrus-fetch-model"):
        assert re.search(rf" {re.escape(path)}( |$)", listing, re.M), path
    assert package.stat().st_size < 4_000_000


class Chroot:
    def __init__(self, folder):
        self.root = folder / "root"
        run("debootstrap", "--variant=minbase",
            "--include=adduser,libjansson4,libmicrohttpd12,libopenblas0-pthread,libssl3,libutf8proc2,procps", "bookworm", self.root)

    def __call__(self, script, user="root"):
        """Runs a script inside, in a mount namespace of its own that has /proc."""
        inner = f"mount -t proc none {self.root}/proc && exec chroot --userspec={user} {self.root} /bin/sh -ec '{script}'"
        return run("unshare", "--mount", "sh", "-ec", inner, env={"PATH": os.environ["PATH"], "LC_ALL": "C"})


@deb_only
def test_maintainer_scripts_in_a_chroot(package, tmp_path):
    inside = Chroot(tmp_path)
    shutil.copy(package, inside.root / "one.deb")
    assert "orthrus-fetch-model" in inside("dpkg -i /one.deb"), "the first installation says how to get a model"
    inside("getent passwd orthrus; test -d /var/lib/orthrus/models; test -f /usr/lib/systemd/system/orthrus.service")
    assert inside("stat -c %U:%a /var/lib/orthrus/state") == "orthrus:700\n"

    # The program starts by hand, as the service's account.
    shutil.copytree(TINY, inside.root / "var/lib/orthrus/models/tiny")
    inside("ln -s models/tiny /var/lib/orthrus/model")
    inside("orthrus serve --model /var/lib/orthrus/model --state-dir /var/lib/orthrus/state --listen 127.0.0.1:18123 "
           "--admin-listen 127.0.0.1:18124 & pid=$!; n=0; "
           "until orthrus health http://127.0.0.1:18124; do n=$((n+1)); test $n -lt 60; sleep 0.5; done; kill $pid; wait $pid", "orthrus")

    # An upgrade keeps what the administrator changed.
    inside("echo ORTHRUS_THREADS=1 >> /etc/orthrus/orthrus.env")
    unpacked = tmp_path / "unpacked"
    run("dpkg-deb", "-R", package, unpacked)
    control = unpacked / "DEBIAN" / "control"
    control.write_text(re.sub(r"^Version: .*", "Version: 99.0", control.read_text(), flags=re.M))
    run("dpkg-deb", "-b", unpacked, inside.root / "two.deb")
    inside("dpkg -i /two.deb; grep -q ORTHRUS_THREADS=1 /etc/orthrus/orthrus.env; test -e /var/lib/orthrus/model/config.json")

    inside("dpkg -r orthrus; test -e /var/lib/orthrus/model/config.json; test ! -e /usr/bin/orthrus; getent passwd orthrus")
    inside("dpkg -P orthrus; test ! -e /var/lib/orthrus; test ! -e /etc/orthrus; ! getent passwd orthrus")
    assert "orthrus" not in inside("find / -xdev -path /proc -prune -o -name \"*orthrus*\" -print | grep -v dpkg/info || true")
