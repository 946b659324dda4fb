"""Threads follow affinity and the CPU quota of a real control group; memory stays under a limit."""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import time

import pytest
from fleet import BIN, TINY

CPUS = sorted(os.sched_getaffinity(0))


def threads(server):
    return server.wait_log("model loaded")["threads"]


def test_one_thread_per_allowed_cpu(start):
    assert threads(start()) == len(CPUS)


def openblas(server):
    return "openblas" in pathlib.Path(f"/proc/{server.process.pid}/maps").read_text()


def test_openblas_is_loaded_where_it_multiplies(start):
    """It starts a thread for every CPU but one as it is loaded."""
    own = start("--isa", "generic")
    assert openblas(own)
    names = len(list(pathlib.Path(f"/proc/{own.process.pid}/task").iterdir()))
    server = start()
    if server.get("/info").json()["isa"] == "generic":
        pytest.skip("this machine has no kernels of ours")
    assert not openblas(server)
    assert len(list(pathlib.Path(f"/proc/{server.process.pid}/task").iterdir())) == names


def address_space_kib(server):
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmSize:")[1].split()[0])


def test_memory_grows_with_the_threads_not_their_square(start):
    sizes = [address_space_kib(start("--threads", str(n))) for n in (16, 32, 64)]
    assert sizes[2] - sizes[1] <= 1.25 * 2 * (sizes[1] - sizes[0]), sizes


@pytest.mark.skipif(len(CPUS) < 2, reason="one CPU only")
def test_affinity(start):
    os.sched_setaffinity(0, CPUS[:1])
    try:
        server = start()
    finally:
        os.sched_setaffinity(0, CPUS)
    assert threads(server) == 1


def controller(name):
    """(mount, version, this process's group) where groups of this controller can be made."""
    groups = {}
    for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        _, names, group = line.split(":", 2)
        groups.update(dict.fromkeys(names.split(","), group.lstrip("/")))
    for line in pathlib.Path("/proc/mounts").read_text().splitlines():
        _, folder, kind, options, *_ = line.split()
        mount = pathlib.Path(folder)
        if kind == "cgroup" and name in options.split(","):
            return mount, 1, mount / groups[name]
        if kind == "cgroup2":
            enabled = mount / "cgroup.subtree_control"
            if enabled.exists() and name in enabled.read_text().split():
                return mount, 2, mount / groups[""]
    return pytest.skip(f"no control group of {name} is mounted here")


class Group:
    """A control group of our own."""

    def __init__(self, name, values):
        """values: {version: {file: text}}."""
        mount, version, self.home = controller(name)
        self.folder = mount / f"orthrus-test-{os.getpid()}"
        try:
            self.folder.mkdir()
        except OSError as problem:
            pytest.skip(f"no group can be made under {mount}: {problem.strerror}")
        for file, text in values[version].items():
            (self.folder / file).write_text(text)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        end = time.monotonic() + 10
        while (self.folder / "cgroup.procs").read_text() and time.monotonic() < end:
            time.sleep(0.05)
        self.folder.rmdir()

    @contextlib.contextmanager
    def birthplace(self):
        """What is started meanwhile is born in the group; this process itself goes home again."""
        (self.folder / "cgroup.procs").write_text(str(os.getpid()))
        try:
            yield
        finally:
            (self.home / "cgroup.procs").write_text(str(os.getpid()))


def quota(cpus):
    period = 100_000
    return {1: {"cpu.cfs_period_us": str(period), "cpu.cfs_quota_us": str(int(cpus * period))},
            2: {"cpu.max": f"{int(cpus * period)} {period}"}}


@pytest.mark.skipif(len(CPUS) < 2, reason="one CPU only")
@pytest.mark.parametrize("cpus,expected", [(0.5, 1), (1.9, 1), (2.0, 2)])
def test_quota(start, cpus, expected):
    with Group("cpu", quota(cpus)) as group:
        with group.birthplace():
            server = start()
        assert threads(server) == expected
        server.stop()


def test_memory_stays_under_its_limit(start):
    """Many texts and bodies over the limit, in 128 MiB for the tiny model: what flags bound stays
    bounded, and the kernel never has to kill."""
    limit = 128 << 20
    with Group("memory", {1: {"memory.limit_in_bytes": str(limit)},
                          2: {"memory.max": str(limit)}}) as group:
        with group.birthplace():
            server = start("--threads", "2", "--max-body-bytes", str(2 << 20))
        text = "many words of a sentence " * 20
        for _ in range(20):
            reply = server.post("/embed", {"inputs": [text] * 2048})
            assert reply.status == 200
            reply = server.post("/embed", {"inputs": "x" * (3 << 20)})
            assert reply.status == 413
        peak = next(group.folder / name for name in ("memory.max_usage_in_bytes", "memory.peak")
                    if (group.folder / name).exists())
        print(json.dumps({"peak_mib": int(peak.read_text()) >> 20}))
        assert int(peak.read_text()) < limit
        assert server.process.poll() is None
        server.stop()


@pytest.mark.skipif(os.environ.get("ORTHRUS_FULL") != "1", reason="ORTHRUS_FULL is not set")
@pytest.mark.skipif("ORTHRUS_TEST_MODEL" not in os.environ, reason="ORTHRUS_TEST_MODEL not set")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_the_manifests_limit_is_enough_for_bert_base(start, precision):
    limit = 1 << 30
    with Group("memory", {1: {"memory.limit_in_bytes": str(limit)},
                          2: {"memory.max": str(limit)}}) as group:
        with group.birthplace():
            server = start("--precision", precision, model=os.environ["ORTHRUS_TEST_MODEL"])
        assert server.post("/embed", {"inputs": ["many words of a sentence"] * 64}).status == 200
        server.stop()


def test_taskset_is_followed_by_bulk_commands():
    """The command line's own default: `orthrus bench` says how many threads it used."""
    if not shutil.which("taskset"):
        pytest.skip("taskset is not installed")
    done = subprocess.run(["taskset", "-c", str(CPUS[0]), BIN, "bench", "--model", str(TINY),
                           "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["threads"] == 1
