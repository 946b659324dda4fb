"""docker/Dockerfile: what can be read from it, and with ORTHRUS_FULL=1 the image itself, built and
run."""

import contextlib
import fnmatch
import json
import os
import re
import time

import image
import pytest
from fleet import ask, free_port

FULL = os.environ.get("ORTHRUS_FULL") == "1"
ADDED_MAX = 80 << 20  # without the model, over the base
DOCKERFILE = (image.ROOT / "docker" / "Dockerfile").read_text()


def instructions():
    text = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.M)
    return [line.split(None, 1) for line in re.sub(r"\\\n", " ", text).splitlines() if line.strip()]


def test_dockerfile():
    lines = instructions()
    stages = [rest for word, rest in lines if word == "FROM"]
    last = max(i for i, (word, _) in enumerate(lines) if word == "FROM")
    final = {word: rest for word, rest in lines[last:]}
    assert len(stages) == 2 and all(stage.startswith("${BASE}") for stage in stages)
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", final["USER"])
    assert json.loads(final["ENTRYPOINT"]) == ["orthrus"]
    assert json.loads(final["CMD"]) == ["serve"]
    assert json.loads(final["HEALTHCHECK"].split("CMD ", 1)[1]) == ["orthrus", "health"]
    # Only what every builder knows.
    assert not re.search(r"--mount|--link|--chmod|<<|^# *syntax", DOCKERFILE, re.M)
    assert "-dev" not in " ".join(rest for word, rest in lines[last:] if word == "RUN")


def test_context_holds_what_git_does_and_nothing_else():
    allowed = [line[1:] for line in (image.ROOT / ".dockerignore").read_text().splitlines()
               if line.startswith("!")]
    assert all((image.ROOT / path).exists() for path in allowed)
    secrets = ("build-release", ".git", "tests/http", "docker/kubernetes", "some.key", ".env")
    assert not any(fnmatch.fnmatch(name, path) for name in secrets for path in allowed)


@pytest.fixture(scope="module")
def builder(tmp_path_factory):
    if not FULL:
        pytest.skip("ORTHRUS_FULL is not set")
    why = image.missing()
    if why:
        pytest.skip(f"no image can be built here: {why}")
    made = image.Builder(tmp_path_factory.mktemp("image"))
    made.make_base()
    made.build("orthrus-test", MODEL_DIR="tests/data/golden/tiny-bert", REVISION="abc")
    yield made
    made.remove()


@contextlib.contextmanager
def service(root, config):
    """The image's service on loopback ports: (process, main address, admin address)."""
    main, admin = (f"127.0.0.1:{free_port('127.0.0.1')}" for _ in range(2))
    process = image.run(root, config, ORTHRUS_LISTEN=main, ORTHRUS_ADMIN_LISTEN=admin)
    try:
        end = time.monotonic() + 60
        while True:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < end, "not ready in 60 s"
            with contextlib.suppress(OSError):
                if ask(admin, "/readyz")[0] == 200:
                    break
            time.sleep(0.1)
        yield process, main, admin
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def test_image_configuration(builder):
    config = builder.config("orthrus-test")
    assert config["User"] == "65532:65532"
    assert config["Healthcheck"]["Test"] == ["CMD", "orthrus", "health"]
    assert set(config["ExposedPorts"]) == {"8080/tcp", "8081/tcp"}
    labels = config["Labels"]
    assert labels["org.opencontainers.image.revision"] == "abc"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_image_size(builder):
    _, root = builder.unpack("orthrus-test")
    model = image.bytes_on_disk(root / "model")
    added = image.bytes_on_disk(root) - model - image.bytes_on_disk(builder.base_root)
    print(f"added to the base without the model: {added / 1e6:.1f} MB")
    assert added < ADDED_MAX


def test_service_runs_from_the_image(builder):
    """As uid 65532, on a read-only root, with every shell taken away."""
    config = builder.config("orthrus-test")
    _, root = builder.unpack("orthrus-test")
    for shell in ("sh", "dash", "bash", "rbash"):
        (root / "bin" / shell).unlink(missing_ok=True)
    with service(root, config) as (process, main, admin):
        status, headers, body = ask(main, "/embed", "POST", json.dumps({"inputs": "hello"}),
                                    {"Content-Type": "application/json"})
        assert status == 200 and json.loads(body)[0] and headers["x-encoder"]
        assert json.loads(ask(main, "/classify", "POST", json.dumps({"inputs": "hello"}),
                              {"Content-Type": "application/json"})[2])[0]["label"]
        health = image.run(root, config, config["Healthcheck"]["Test"][1:],
                           ORTHRUS_ADMIN_LISTEN=admin)
        assert health.communicate(timeout=30)[0] == "/readyz 200\n" and health.returncode == 0
        status_file = (image.pathlib.Path(f"/proc/{process.pid}/status")).read_text()
        assert re.search(r"^Uid:\s+65532\s+65532\s+65532\s+65532$", status_file, re.M)
        process.terminate()
        assert process.wait(40) == 0
    health = image.run(root, config, config["Healthcheck"]["Test"][1:], ORTHRUS_ADMIN_LISTEN=admin)
    assert health.wait(30) == 1
