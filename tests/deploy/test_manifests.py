"""docker/kubernetes: every overlay and component builds, is valid, and says what it must."""

import base64
import os
import pathlib
import re
import shutil
import subprocess

import pytest
import yaml
from fleet import BIN, TINY
from go_tool import Missing, go_tool

ROOT = pathlib.Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "docker" / "kubernetes"
FULL = os.environ.get("ORTHRUS_FULL", "0") == "1"
KUBE_SCORE = "github.com/zegl/kube-score/cmd/kube-score@v1.20.0"
KUSTOMIZE = "sigs.k8s.io/kustomize/kustomize/v5@v5.7.1"
OVERLAYS = sorted(p.name for p in (KUBERNETES / "overlays").iterdir())
COMPONENTS = sorted(p.name for p in (KUBERNETES / "components").iterdir())
BUILDS = ["base", *(f"overlays/{name}" for name in OVERLAYS),
          *(f"components/{name}" for name in COMPONENTS)]
# Kinds of the Prometheus operator, whose schemas no validator here carries.
CUSTOM = {"PodMonitor", "PrometheusRule", "ServiceMonitor"}
# What an operator lays beside a kustomization (see the files' comments).
LAID = {
    "components/tokens/api-keys": b"team:" + b"k" * 32,
    "components/tokens/admin-tokens": b"ops:" + b"t" * 32,
    "components/heads/0001.safetensors": (TINY / "heads.safetensors").read_bytes(),
}


def kustomize():
    try:
        return go_tool(KUSTOMIZE)
    except Missing as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """{build: its objects}."""
    copy = tmp_path_factory.mktemp("kustomize") / "kubernetes"
    shutil.copytree(KUBERNETES, copy)
    for name, data in LAID.items():
        (copy / name).write_bytes(data)
    out = {}
    for build in BUILDS:
        folder = copy / build
        if build.startswith("components/"):
            folder = copy / "overlays" / build.replace("/", "-")
            folder.mkdir()
            (folder / "kustomization.yaml").write_text(
                "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
                f"resources: [../../base]\ncomponents: [../../{build}]\n")
        done = subprocess.run([kustomize(), "build", folder], capture_output=True, text=True,
                              check=False)
        assert done.returncode == 0, done.stderr
        assert "deprecated" not in done.stderr, done.stderr
        out[build] = list(yaml.safe_load_all(done.stdout))
    return out


@pytest.fixture(params=BUILDS)
def objects(request, built):
    return built[request.param]


def one(objects, kind, name=None):
    found = [o for o in objects if o["kind"] == kind and (name is None or o["metadata"]["name"] == name)]
    assert len(found) == 1, f"{kind}: {len(found)}"
    return found[0]


def pod(objects):
    return one(objects, "Deployment")["spec"]["template"]["spec"]


def container(objects):
    return pod(objects)["containers"][0]


def environment(objects):
    return {e["name"]: e.get("value") for e in container(objects)["env"]}


def test_everything_is_in_the_namespace(objects):
    for o in objects:
        if o["kind"] != "Namespace":
            assert o["metadata"]["namespace"] == "orthrus", o["kind"]


def test_schemas(objects):
    validate = pytest.importorskip("kubernetes_validate")
    for o in objects:
        if o["kind"] not in CUSTOM:
            validate.validate(o, "1.31", strict=True)


def test_pods_meet_the_restricted_level(objects):
    spec = pod(objects)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert not any(spec.get(key) for key in ("hostNetwork", "hostPID", "hostIPC"))
    for c in [*spec.get("initContainers", ()), *spec["containers"]]:
        assert c["securityContext"] == {"allowPrivilegeEscalation": False,
                                        "readOnlyRootFilesystem": True,
                                        "capabilities": {"drop": ["ALL"]}}
        assert c["resources"]["limits"]["memory"], c["name"]
        assert {"cpu", "memory"} <= set(c["resources"]["requests"])
    allowed = {"configMap", "secret", "emptyDir", "persistentVolumeClaim"}
    assert all(set(v) - {"name"} <= allowed for v in spec["volumes"])
    level = one(objects, "Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
    assert level == "restricted"


def test_every_setting_is_a_flag_of_serve(objects):
    text = subprocess.run([BIN, "serve", "--help"], capture_output=True, text=True,
                          check=True).stdout
    known = set(re.findall(r"ORTHRUS_[A-Z_]+", text))
    known |= {f"ORTHRUS_{flag[2:].upper().replace('-', '_')}"
              for flag in re.findall(r"--[a-z][a-z-]+", text)}
    asked = {name for name in environment(objects) if name.startswith("ORTHRUS_")}
    assert asked <= known, asked - known


def test_probes_and_ports(objects):
    c = container(objects)
    ports = {p["name"]: p["containerPort"] for p in c["ports"]}
    assert ports == {"http": 8080, "admin": 8081}
    paths = {probe: c[probe]["httpGet"]["path"]
             for probe in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert paths == {"startupProbe": "/readyz", "readinessProbe": "/readyz",
                     "livenessProbe": "/livez"}
    assert all(c[probe]["httpGet"]["port"] == "admin" for probe in paths)
    # The kubelet asks the pod's address, so the listener must be there and POD_IP known before.
    names = [e["name"] for e in c["env"]]
    assert environment(objects)["ORTHRUS_ADMIN_LISTEN"] == "[$(POD_IP)]:8081"
    assert names.index("POD_IP") < names.index("ORTHRUS_ADMIN_LISTEN")
    assert [p["targetPort"] for p in one(objects, "Service", "orthrus")["spec"]["ports"]] == ["http"]


def test_a_pod_ends_before_it_is_killed(objects):
    env = environment(objects)
    delay = int(env["ORTHRUS_DRAIN_DELAY_MS"]) / 1000
    drain = int(env["ORTHRUS_DRAIN_TIMEOUT_S"])
    readiness = container(objects)["readinessProbe"]
    assert delay + drain < pod(objects)["terminationGracePeriodSeconds"]
    assert readiness["periodSeconds"] * readiness["failureThreshold"] < delay
    assert int(env["ORTHRUS_REQUEST_TIMEOUT_MS"]) / 1000 < drain


def test_roll_outs_and_evictions_leave_replicas(objects):
    deployment = one(objects, "Deployment")["spec"]
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert "replicas" not in deployment
    hpa = one(objects, "HorizontalPodAutoscaler")["spec"]
    assert hpa["minReplicas"] >= 2 and hpa["metrics"][0]["resource"]["name"] == "cpu"
    assert hpa["scaleTargetRef"]["name"] == one(objects, "Deployment")["metadata"]["name"]
    labels = deployment["template"]["metadata"]["labels"]
    for selector in (deployment["selector"]["matchLabels"],
                     one(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
                     one(objects, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
                     one(objects, "Service", "orthrus")["spec"]["selector"],
                     *(c["labelSelector"]["matchLabels"]
                       for c in pod(objects)["topologySpreadConstraints"])):
        assert selector and selector.items() <= labels.items()


def test_heads_reach_every_replica(objects):
    mounts = {m["name"]: m for m in container(objects)["volumeMounts"]}
    assert not any("subPath" in m for m in mounts.values())
    assert mounts["heads"]["mountPath"] == environment(objects)["ORTHRUS_HEADS_DIR"]
    volume = next(v for v in pod(objects)["volumes"] if v["name"] == "heads")
    assert volume["configMap"] == {"name": "orthrus-heads", "optional": True}
    assert "ORTHRUS_STATE_DIR" not in environment(objects)


def test_vectors_are_the_same_on_every_node(objects):
    assert environment(objects)["ORTHRUS_PRECISION"] in ("fp32", "bf16", "int8")


def test_admin_port_stays_inside(objects):
    spec = one(objects, "NetworkPolicy")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"] and not spec.get("egress")
    for rule in spec["ingress"]:
        if any(p["port"] == "admin" for p in rule["ports"]):
            assert rule["ports"] == [{"port": "admin", "protocol": "TCP"}]
            assert rule["from"] == [{
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}},
                "podSelector": {"matchLabels": {"app.kubernetes.io/name": "prometheus"}}}]


def test_cpu_is_limited_only_where_it_is_exclusive(built):
    for build, objects in built.items():
        resources = container(objects)["resources"]
        exclusive = build in ("components/exclusive-cpus", "overlays/dedicated-bf16")
        if exclusive:
            assert resources["limits"]["cpu"] == resources["requests"]["cpu"]
            assert resources["limits"]["cpu"].isdigit()
            assert resources["limits"]["memory"] == resources["requests"]["memory"]
        assert ("cpu" in resources["limits"]) == exclusive, build
        threads = next(e for e in container(objects)["env"] if e["name"] == "ORTHRUS_THREADS")
        assert threads["valueFrom"]["resourceFieldRef"]["resource"] == "requests.cpu"


def test_components_do_what_they_say(built):
    heads = one(built["components/heads"], "ConfigMap")
    assert heads["metadata"]["name"] == "orthrus-heads"
    assert list(heads["binaryData"]) == ["0001.safetensors"]
    secret = one(built["components/tokens"], "Secret")["metadata"]["name"]
    volumes = {v["name"]: v for v in pod(built["components/tokens"])["volumes"]}
    assert volumes["tokens"]["secret"]["secretName"] == secret != "orthrus-tokens"
    metrics = one(built["components/hpa-queue"], "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert [m["type"] for m in metrics] == ["Resource", "Pods"]
    for model in ("model-init", "model-pvc"):
        mounts = container(built[f"components/{model}"])["volumeMounts"]
        assert next(m for m in mounts if m["mountPath"] == "/model")["readOnly"]


def test_service_monitor_finds_the_admin_port(built):
    objects = built["components/servicemonitor"]
    service, spec = one(objects, "Service", "orthrus-admin"), one(objects, "ServiceMonitor")["spec"]
    assert spec["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert spec["jobLabel"] in service["metadata"]["labels"]
    assert [p["port"] for p in spec["endpoints"]] == [p["name"] for p in service["spec"]["ports"]] == ["admin"]
    assert service["spec"]["clusterIP"] == "None"
    labels = one(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()


def test_service_monitor_takes_the_pod_monitors_place(tmp_path, built):
    copy = tmp_path / "kubernetes"
    shutil.copytree(KUBERNETES, copy)
    (copy / "overlays" / "both").mkdir()
    (copy / "overlays" / "both" / "kustomization.yaml").write_text(
        "kind: Kustomization\nresources: [../../base]\ncomponents: [../../components/monitoring, ../../components/servicemonitor]\n")
    done = subprocess.run([kustomize(), "build", copy / "overlays" / "both"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    kinds = {o["kind"] for o in yaml.safe_load_all(done.stdout)}
    assert {"ServiceMonitor", "PrometheusRule"} <= kinds and "PodMonitor" not in kinds


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
def test_production_says_which_secret_it_needs(tmp_path):
    """Without it the build ends and names the file; the lines of the overlay's own comment are enough."""
    copy = tmp_path / "docker" / "kubernetes"
    shutil.copytree(KUBERNETES, copy, ignore=lambda folder, names: [n for n in names if n in ("api-keys", "admin-tokens")])
    text = (copy / "overlays" / "production" / "kustomization.yaml").read_text()
    for word in ("orthrus-tokens", "api-keys", "admin-tokens", "components/tokens"):
        assert word in text

    def build():
        return subprocess.run([kustomize(), "build", copy / "overlays" / "production"], capture_output=True, text=True, check=False)

    before = build()
    assert before.returncode != 0 and "components/tokens/api-keys" in before.stderr
    lines = "\n".join(line.removeprefix("#   ") for line in text.splitlines() if line.startswith("#   "))
    subprocess.run(["bash", "-ec", lines], cwd=tmp_path, check=True)
    after = build()
    assert after.returncode == 0, after.stderr
    secret = one(list(yaml.safe_load_all(after.stdout)), "Secret")
    for file in ("api-keys", "admin-tokens"):
        name, token = base64.b64decode(secret["data"][file]).decode().strip().split(":")
        assert name and len(token) >= 32


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_adapter_rule_is_a_query(tmp_path, built):
    text = (KUBERNETES / "components" / "hpa-queue" / "prometheus-adapter-rule.yaml").read_text()
    rule, = yaml.safe_load(text)["rules"]
    metrics = one(built["components/hpa-queue"], "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert rule["name"]["as"] == metrics[1]["pods"]["metric"]["name"]
    query = rule["metricsQuery"]
    for placeholder, value in (("<<.GroupBy>>", "pod"), ("<<.Series>>", rule["name"]["as"]),
                               ("<<.LabelMatchers>>", 'namespace="orthrus",pod=~"a|b"')):
        query = query.replace(placeholder, value)
    rules = {"groups": [{"name": "g", "rules": [{"record": "r", "expr": query},
                                                {"record": "s", "expr": rule["seriesQuery"]}]}]}
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules))
    done = subprocess.run(["promtool", "check", "rules", tmp_path / "rules.yml"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# -- what policy checkers say; what is otherwise on purpose stands in the files, with its reason ------


@pytest.fixture(scope="session")
def overlays(built, tmp_path_factory):
    folder = tmp_path_factory.mktemp("overlays")
    for name in OVERLAYS:
        (folder / f"{name}.yaml").write_text(yaml.safe_dump_all(built[f"overlays/{name}"]))
    return folder


@pytest.mark.skipif(not FULL, reason="ORTHRUS_FULL=1 builds kube-score")
def test_kube_score(overlays):
    try:
        program = go_tool(KUBE_SCORE)
    except Missing as reason:
        pytest.skip(str(reason))
    for file in overlays.iterdir():
        done = subprocess.run([program, "score", file, "--output-format", "ci"], capture_output=True, text=True, check=False)
        lines = done.stdout.splitlines()
        assert len(lines) > 30 and not [line for line in lines if line.startswith(("[CRITICAL]", "[WARNING]"))], done.stdout


@pytest.mark.skipif(not FULL or not shutil.which("checkov"), reason="ORTHRUS_FULL=1 runs checkov where it is installed")
def test_checkov(overlays):
    for file in [*overlays.iterdir(), ROOT / "docker" / "Dockerfile"]:
        done = subprocess.run(["checkov", "-f", file, "--compact", "--quiet", "--skip-download"], capture_output=True, text=True,
                              check=False)
        assert done.returncode == 0 and "Failed checks: 0" in done.stdout, done.stdout


@pytest.mark.skipif(not shutil.which("hadolint"), reason="hadolint is not installed")
def test_hadolint():
    done = subprocess.run(["hadolint", ROOT / "docker" / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
