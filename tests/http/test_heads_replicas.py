"""Three replicas and one heads file: by a PUT, by tools/push-heads, by a folder that all of them watch."""
import hashlib
import os
import time

import pytest
from conftest import PATIENCE_S
from test_admin import AUTH, active, heads_file, put, versions
from test_push_heads import push

N = 3


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def in_service(server):
    """The heads that answer: the 12 digits, as version numbers are each replica's own."""
    return active(server).split("-")[1]


def serve(servers, data):
    return [in_service(server) for server in servers] == [sha256(data)[:12]] * len(servers)


def wait_all(holds, servers):
    end = time.monotonic() + PATIENCE_S
    while not all(holds(server) for server in servers):
        assert time.monotonic() < end, [server.log() for server in servers]
        time.sleep(0.02)


@pytest.fixture
def replicas(start, token_file):
    return [start("--admin-token-file", token_file) for _ in range(N)]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "new.safetensors"
    path.write_bytes(heads_file(seed=7))
    return path


def test_a_put_changes_its_replica_alone(replicas):
    before = in_service(replicas[0])
    data = heads_file()
    assert put(replicas[1], data).status == 200
    assert [in_service(replica) for replica in replicas] == [before, sha256(data)[:12], before]
    assert [len(versions(replica)) for replica in replicas] == [1, 2, 1]


def test_push_heads_brings_replicas_together_that_differ(replicas, file):
    assert put(replicas[1], heads_file(seed=1)).status == 200
    assert push(file, *(replica.admin for replica in replicas)).returncode == 0
    assert serve(replicas, file.read_bytes())


def test_push_heads_and_a_replica_that_is_managed(replicas, file, start, token_file, tmp_path):
    folder = tmp_path / "watched"
    folder.mkdir()
    (folder / "a.safetensors").write_bytes(heads_file(seed=5))
    managed = start("--admin-token-file", token_file, "--heads-dir", str(folder))
    before = [active(replica) for replica in replicas]
    done = push(file, *(replica.admin for replica in replicas), managed.admin)
    assert done.returncode == 1 and "409" in done.stderr and "nothing was changed" in done.stderr
    assert [active(replica) for replica in replicas] == before
    assert serve([managed], heads_file(seed=5))


def test_push_heads_and_a_replica_that_is_gone(replicas, file):
    before = [active(replica) for replica in replicas[:2]]
    replicas[2].stop()
    done = push(file, *(replica.admin for replica in replicas))
    assert done.returncode == 1 and "nothing was changed" in done.stderr
    assert [active(replica) for replica in replicas[:2]] == before


def swaps(server, result):
    text = server.get("/metrics").body.decode()
    name = f'orthrus_heads_swaps_total{{result="{result}"}} '
    return next(int(line[len(name):]) for line in text.splitlines() if line.startswith(name))


def refusal(server):
    """What GET /admin/heads says about the folder's newest file, None where it serves."""
    body = server.get("/admin/heads", AUTH, admin=True).json()
    assert body["managed"] is True
    return body["refused"]


def put_in(folder, name, data):
    """A file that appears whole."""
    (folder / ".new").write_bytes(data)
    os.rename(folder / ".new", folder / name)


def test_a_folder_for_all_of_them(start, token_file, tmp_path):
    folder = tmp_path / "watched"
    folder.mkdir()
    first, second, third = (heads_file(seed=seed) for seed in (1, 2, 3))
    put_in(folder, "1.safetensors", first)
    replicas = [start("--admin-token-file", token_file, "--heads-dir", str(folder)) for _ in range(N)]
    assert serve(replicas, first)

    put_in(folder, "2.safetensors", second)
    wait_all(lambda replica: serve([replica], second), replicas)

    broken = heads_file(hidden=16)
    put_in(folder, "3.safetensors", broken)
    wait_all(refusal, replicas)
    for replica in replicas:
        assert refusal(replica).startswith("3.safetensors: ") and "expected is [6, 32]" in refusal(replica)
        line = replica.wait_log("heads swap", result="refused")
        assert (line["by"], line["what"], line["sha256"]) == ("heads-dir", "3.safetensors", sha256(broken))
        assert swaps(replica, "refused") == 1 and swaps(replica, "ok") == 2
        assert replica.get("/readyz").status == 200
    assert serve(replicas, second)

    put_in(folder, "4.safetensors", third)
    wait_all(lambda replica: serve([replica], third) and refusal(replica) is None, replicas)
