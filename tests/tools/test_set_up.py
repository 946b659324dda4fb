"""tools/install-packages and run, with stand-ins for the commands that they call."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# What the scripts need of a real system.
REAL = ("bash", "cat", "cut", "dirname", "env", "nproc", "readlink", "rm", "sed", "tr", "xargs")


class Machine:
    """A PATH with a few real commands and stand-ins that write down how they were called."""

    def __init__(self, folder):
        self.bin = folder / "bin"
        self.log = folder / "log"
        self.bin.mkdir()
        self.log.write_text("")
        for name in REAL:
            (self.bin / name).symlink_to(shutil.which(name))
        self.env = {"PATH": str(self.bin), "HOME": str(folder / "home")}

    def stand_in(self, path, body="", log=True):
        path = self.bin / path
        path.parent.mkdir(parents=True, exist_ok=True)
        line = f'echo "{path.name} $*" >>"{self.log}"\n' if log else ""
        path.write_text(f"#!{shutil.which('bash')}\n{line}{body}\n")
        path.chmod(0o755)

    def run(self, command, *arguments, status=0, **env):
        done = subprocess.run([str(command), *arguments], env={**self.env, **env}, text=True,
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
                              check=False)
        assert done.returncode == status, done.stderr
        return done

    def calls(self):
        return self.log.read_text().splitlines()


@pytest.fixture(name="machine")
def _machine(tmp_path):
    return Machine(tmp_path)


# --- tools/install-packages ----------------------------------------------------------------------

INSTALL = ROOT / "tools" / "install-packages"
TEST_GROUP = ("libcmocka-dev", "clang", "libclang-rt-dev", "clang-format", "clang-tidy", "llvm",
              "python3-venv", "curl")
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="not root")
user_only = pytest.mark.skipif(os.geteuid() == 0, reason="root")


def debian(machine, installed, fails=0):
    """apt and dpkg; what apt-get installs is there afterwards; it fails `fails` times first."""
    status = machine.bin.parent / "status"
    status.write_text("".join(f"{name} installed\n" for name in installed))
    count = machine.bin.parent / "count"
    count.write_text("0")
    machine.stand_in("dpkg-query", f'cat "{status}"', log=False)
    machine.stand_in("apt-cache", 'case $2 in libclang-rt-dev) c="(none)";; *) c=1;; esac\n'
                     'echo "  Candidate: $c"', log=False)
    machine.stand_in("apt-get", f"""
case " $* " in *" install "*) ;; *) exit 0;; esac
n=$(<"{count}"); echo $((n + 1)) >"{count}"
if ((n < {fails})); then exit 100; fi
for name; do echo "$name installed" >>"{status}"; done""")
    machine.stand_in("sleep", log=False)


def test_nothing_to_install(machine):
    debian(machine, TEST_GROUP)
    done = machine.run(INSTALL, "test")
    assert (done.stdout, done.stderr, machine.calls()) == ("", "", [])


def test_another_package_that_will_do(machine):
    debian(machine, [n.replace("rt-dev", "rt-14-dev") for n in TEST_GROUP])
    machine.run(INSTALL, "test")
    assert machine.calls() == []


@root_only
def test_missing_packages_are_installed(machine):
    debian(machine, [n for n in TEST_GROUP if n not in ("clang-tidy", "libclang-rt-dev")], fails=2)
    done = machine.run(INSTALL, "test")
    update, *installs = machine.calls()
    assert update.endswith(" update") and len(installs) == 3
    # The second choice: this apt has no libclang-rt-dev.
    assert installs[-1].endswith("--no-install-recommends libclang-rt-14-dev clang-tidy")
    assert done.stdout == ""


@root_only
def test_apt_get_that_goes_on_failing(machine):
    debian(machine, [], fails=99)
    done = machine.run(INSTALL, "model", status=1)
    assert "maven" in done.stderr


@user_only
def test_without_root_the_command_is_named(machine):
    debian(machine, [])
    done = machine.run(INSTALL, "model", status=1)
    assert "apt-get install -y --no-install-recommends maven" in done.stderr
    assert machine.calls() == []


def test_another_system_that_has_it(machine):
    machine.stand_in("mvn")
    machine.run(INSTALL, "model")


def test_another_system_that_lacks_it(machine):
    done = machine.run(INSTALL, "build", status=1)
    for name in ("libmicrohttpd-dev", "libjansson-dev", "libopenblas-dev", "libutf8proc-dev"):
        assert name in done.stderr
    assert "|" not in done.stderr


def test_install_packages_usage(machine):
    assert "build" in machine.run(INSTALL, "--help").stdout
    assert "maven" in machine.run(INSTALL, "--list", "model").stdout
    machine.run(INSTALL, status=2)
    machine.run(INSTALL, "no-such-group", status=2)
    machine.run(INSTALL, "--no-such-flag", "test", status=2)


# --- run -----------------------------------------------------------------------------------------

class Checkout:
    """A copy of run among stand-ins, in a folder with a space."""

    def __init__(self, machine, folder):
        self.machine = machine
        self.root = folder
        folder.mkdir()
        shutil.copy(ROOT / "run", folder / "run")
        machine.stand_in(folder / "tools" / "install-packages")
        machine.stand_in(folder / "tools" / "fetch-model", "echo '/the cache/bert'")
        machine.stand_in("ninja", log=False)
        machine.stand_in("cmake", """
if [[ $1 == -S ]]; then
  mkdir -p "$4"
  echo "CMAKE_HOME_DIRECTORY:INTERNAL=$2" >"$4/CMakeCache.txt"
  echo >"$4/build.ninja"
else
  printf '#!%s\\nprintf "[%%s]" "$@"\\n' "$BASH" >"$2/orthrus"
  chmod +x "$2/orthrus"
fi""")
        for name in ("mkdir", "chmod"):
            (machine.bin / name).symlink_to(shutil.which(name))

    def run(self, *arguments, **options):
        self.machine.log.write_text("")
        done = self.machine.run(self.root / "run", *arguments, **options)
        return done.stdout, [call.split(" ", 1)[0] for call in self.machine.calls()]


@pytest.fixture(name="checkout")
def _checkout(machine, tmp_path):
    return Checkout(machine, tmp_path / "a checkout")


def test_first_and_second_run(checkout):
    out, calls = checkout.run("--listen", "a b")
    assert out == "[serve][--model][/the cache/bert][--listen][a b]"
    assert calls == ["install-packages", "cmake", "cmake", "fetch-model"]
    out, calls = checkout.run()
    assert out == "[serve][--model][/the cache/bert]"
    assert calls == ["install-packages", "cmake", "fetch-model"]


def test_run_without_fetching(checkout):
    for arguments, env in ((["--model", "x y"], {}), (["--model=x"], {}), (["--help"], {}),
                           (["-h"], {}), (["--listen", "a"], {"ORTHRUS_MODEL": "x"})):
        out, calls = checkout.run(*arguments, **env)
        assert out == "[serve]" + "".join(f"[{a}]" for a in arguments)
        assert "fetch-model" not in calls


def test_run_in_a_checkout_that_moved(checkout, tmp_path):
    checkout.run()
    checkout.root = checkout.root.rename(tmp_path / "elsewhere")
    _, calls = checkout.run()
    assert calls.count("cmake") == 2


def test_run_after_a_configure_that_failed(checkout):
    checkout.run()
    (checkout.root / "build" / "build.ninja").unlink()
    _, calls = checkout.run()
    assert calls.count("cmake") == 2


@pytest.mark.parametrize("step", ["tools/install-packages", "tools/fetch-model"])
def test_run_ends_where_a_step_fails(checkout, step):
    checkout.machine.stand_in(checkout.root / step, "exit 1")
    out, _ = checkout.run(status=1)
    assert out == ""
