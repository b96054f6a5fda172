"""The files of the deployment: Dockerfile, entry point, compose file, Kubernetes manifests, lists of packages."""

import io
import os
import re
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from importlib.metadata import entry_points
from pathlib import Path
from unittest.mock import patch

import jinja2
import pytest
import yaml

from lib.core import paths
from lib.serve import contract

DEPLOY = paths.ROOT / "deploy"
BIN = Path(sys.executable).parent


def overlay(name: str) -> str:
    """Return the manifests of an overlay."""
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed: it builds the overlays")
    command = ["kubectl", "kustomize", str(DEPLOY / "kubernetes" / name)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def dockerfile() -> Path:
    """The Dockerfile, which the image itself does not contain."""
    if not (file := paths.ROOT / "Dockerfile").exists():
        pytest.skip("the image does not contain its Dockerfile")
    return file


@pytest.fixture(params=["cpu", "gpu", "scale"])
def manifests(request) -> str:
    """Each overlay."""
    return overlay(request.param)


@pytest.fixture(params=["cpu", "gpu"])
def service(request) -> str:
    """Each overlay of the service on its own."""
    return overlay(request.param)


@pytest.fixture
def scale() -> dict[tuple[str, str], dict]:
    """The specs of the tier's manifests, by kind and name."""
    return {(each["kind"], each["metadata"]["name"]): each.get("spec") for each in yaml.safe_load_all(overlay("scale"))}


@pytest.fixture
def audience() -> dict[str, str]:
    """The issuer and the audience of valid tokens. Read from the code, which needs the tier's packages."""
    code = "".join(file.read_text() for file in (DEPLOY / "scale").glob("*.py"))
    ((issuer, audience),) = re.findall('^ISSUER, AUDIENCE = "(.+)", "(.+)"$', code, re.M)
    return {"issuer": issuer, "audience": audience}


@pytest.fixture
def envoy(audience) -> dict:
    """Envoy's settings for requests, in the tier on one machine."""
    template = jinja2.Template((DEPLOY / "scale/envoy.yaml.j2").read_text(), trim_blocks=True)
    values = {
        "ports": {},
        "replicas": 0,
        "waiting": 0,
        "home": "",
        "body_limit": contract.BODY_LIMIT,
        "failure": contract.failure,
    }
    settings = yaml.safe_load(template.render(values | audience))
    return settings["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]


def containers(manifests: str) -> list[tuple[dict, dict]]:
    """Return each container with its pod."""
    specs = [each.get("spec", {}) for each in yaml.safe_load_all(manifests)]
    pods = [spec["template"]["spec"] for spec in specs if "template" in spec]
    return [(pod, container) for pod in pods for container in pod["containers"]]


def check(command: str, *arguments: str | Path) -> None:
    """Run a checker in this process, which imports it once; fail with its output if it finds an error."""
    (entry,) = entry_points(group="console_scripts", name=command)
    out = io.StringIO()
    with patch.object(sys, "argv", [command, *map(str, arguments)]), redirect_stdout(out), redirect_stderr(out):
        try:
            failed = entry.load()()
        except SystemExit as end:
            failed = end.code
    assert not failed, out.getvalue()


def test_hadolint_accepts_the_dockerfile(dockerfile):
    result = subprocess.run([BIN / "hadolint", dockerfile], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_last_stage_is_the_service_without_the_packages_of_the_tests(dockerfile):
    stages = re.split(r"^FROM ", dockerfile.read_text(), flags=re.M)[1:]
    assert stages[-1].strip() == "service"
    assert [stage.split()[2] for stage in stages if "requirements-dev.txt" in stage] == ["test"]


@pytest.mark.parametrize("name", ["compose.yaml", "compose.events.yaml"])
def test_compose_accepts_its_files(name):
    check("check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / name)


def test_the_lakes_container_has_settings_and_packages_that_its_code_reads():
    lake = yaml.safe_load((DEPLOY / "compose.events.yaml").read_text())["services"]["lake"]
    code = "".join(file.read_text() for file in (DEPLOY / "scale/events").glob("*.py"))
    others = {"PYSPARK_SUBMIT_ARGS", "PYTHONPATH", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"}
    assert all(f'"{name}"' in code for name in set(lake["environment"]) - others)
    spark = pins("deploy/scale/events/requirements.txt")["pyspark"]
    assert f"apache/spark:{spark}-" in lake["build"]["dockerfile_inline"]
    assert lake["environment"]["PYSPARK_SUBMIT_ARGS"].endswith(f":{spark} pyspark-shell")


def test_kubernetes_accepts_the_manifests(manifests, tmp_path):
    file = tmp_path / "all.yaml"
    file.write_text(manifests)
    check("kubernetes-validate", "--strict", file)


def test_kubernetes_accepts_the_training():
    check("kubernetes-validate", "--strict", DEPLOY / "kubernetes/gpu/train.yaml")


def test_the_network_policy_selects_the_service_only(service):
    """An empty selector would select every pod of the namespace."""
    specs = [yaml.safe_load(part) for part in service.split("\n---\n")]
    (policy,) = (each["spec"] for each in specs if each["kind"] == "NetworkPolicy")
    (pod,) = (each["spec"]["template"]["metadata"] for each in specs if each["kind"] == "Deployment")
    assert policy["podSelector"]["matchLabels"] == pod["labels"]


def enter(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess:
    """Run the entry point in a folder."""
    entry = folder / "entrypoint.sh"
    entry.write_text((DEPLOY / "entrypoint.sh").read_text().replace("cd /app", f"cd {folder}"))
    return subprocess.run(["sh", entry, *command], capture_output=True, text=True, env=os.environ | environment)


def test_the_entry_point_lists_its_commands(tmp_path):
    usage = enter(tmp_path, "--help")
    assert usage.returncode == 0 and "playground" in usage.stdout
    wrong = enter(tmp_path, "nonsense")
    assert wrong.returncode == 127 and "unknown command nonsense" in wrong.stderr and usage.stdout in wrong.stderr


@pytest.mark.parametrize("command", ["test", "bench"])
def test_the_image_without_tests_names_the_target_that_has_them(tmp_path, command):
    refused = enter(tmp_path, command, PATH="/usr/bin:/bin")
    assert refused.returncode == 1 and "docker build --target test" in refused.stderr


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["run", "params/gpu.yaml", "epochs=2"], "run params/gpu.yaml epochs=2"),
        (["promote", "outputs/gpu"], "promote outputs/gpu"),
        (["--port", "9000"], "serve --run outputs/current --ip 0.0.0.0 --no-token --port 9000"),
        (["playground"], "playground baked --no-browser --Voila.ip=0.0.0.0"),
    ],
)
def test_the_entry_point_calls_the_command_line(tmp_path, command, expected):
    """A stub in the place of Python prints its arguments."""
    (tmp_path / "outputs").mkdir()
    (tmp_path / "python").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "python").chmod(0o755)
    result = enter(tmp_path, *command, PATH=f"{tmp_path}:/usr/bin:/bin", KG_AUTH_TOKEN="")
    assert result.stdout == f"-m lib.workbook {expected}\n", result.stderr


def test_manifests_hold_no_secret_and_give_containers_no_more_than_they_need(manifests):
    assert "kind: Secret" not in manifests
    for pod, container in containers(manifests):
        assert pod["securityContext"]["runAsNonRoot"] and pod["automountServiceAccountToken"] is False
        bounds = container["securityContext"]
        assert bounds["readOnlyRootFilesystem"] and not bounds["allowPrivilegeEscalation"]
        assert bounds["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["requests"] and "memory" in container["resources"]["limits"]


def test_pods_are_replaced_without_a_gap(manifests):
    deployments = [each["spec"] for each in yaml.safe_load_all(manifests) if each["kind"] == "Deployment"]
    assert deployments
    for deployment in deployments:
        assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_a_service_that_is_not_ready_gets_no_requests(service):
    ((_, container),) = containers(service)
    assert container["readinessProbe"]["httpGet"]["path"] == "/ready"


def test_the_network_policies_select_all_pods_of_the_tier_and_no_others(scale):
    ours = {"app.kubernetes.io/name": "music-recommender-scale"}
    policies = [spec for (kind, _), spec in scale.items() if kind == "NetworkPolicy"]
    assert all(spec["podSelector"]["matchLabels"].items() >= ours.items() for spec in policies)
    (each,) = (spec for spec in policies if spec["podSelector"] == {"matchLabels": ours})
    assert each["policyTypes"] == ["Ingress", "Egress"]
    pods = [spec["template"]["metadata"]["labels"] for (kind, _), spec in scale.items() if kind == "Deployment"]
    assert all(labels.items() >= ours.items() and labels["sidecar.istio.io/inject"] == "true" for labels in pods)


def test_gpu_memory_over_seven_tenths_for_two_minutes_adds_a_pod(scale):
    scaled = scale["ScaledObject", "triton"]
    assert ("Deployment", scaled["scaleTargetRef"]["name"]) in scale
    memory, load = scaled["triggers"]
    assert memory["metricType"] == "Value" and memory["metadata"]["threshold"] == "0.7"
    share = r"nv_gpu_memory_used_bytes{.+} / nv_gpu_memory_total_bytes{.+}"
    rule = rf"max\(min_over_time\(\( {share} \)\[2m:\d+s\]\) and nv_gpu_memory_total_bytes offset 2m\)"
    assert re.fullmatch(rule, memory["metadata"]["query"])
    assert "nv_inference_queue_duration_us" in load["metadata"]["query"]
    # By default an autoscaler ignores a value within a tenth of the threshold.
    behaviour = scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behaviour["scaleUp"]["tolerance"] == "0"


def test_the_mesh_has_the_time_limit_and_the_retries_of_envoy(scale, envoy):
    (host,) = envoy["route_config"]["virtual_hosts"]
    route = next(route for route in host["routes"] if route["match"] == {"prefix": "/"})
    action, retry = route["route"], route["route"]["retry_policy"]
    assert action["timeout"] == "1s"
    for name in ("recommender", "api"):
        (rule,) = scale["VirtualService", name]["http"]
        assert rule["timeout"] == action["timeout"]
        tries = (rule["retries"]["attempts"], rule["retries"]["retryOn"])
        assert tries == (retry["num_retries"], retry["retry_on"])


def test_the_mesh_accepts_the_tokens_that_envoy_accepts(scale, envoy, audience):
    (login,) = scale["RequestAuthentication", "listeners"]["jwtRules"]
    assert (login["issuer"], login["audiences"]) == (audience["issuer"], [audience["audience"]])
    assert not login.get("forwardOriginalToken")  # the cache must not see the token
    authn = next(each["typed_config"] for each in envoy["http_filters"] if each["name"].endswith("jwt_authn"))
    (provider,) = authn["providers"].values()
    prefixes = {header["name"]: header["value_prefix"] for header in provider["from_headers"]}
    assert {header["name"]: header["prefix"] for header in login["fromHeaders"]} == prefixes
    policy = scale["AuthorizationPolicy", "listeners"]
    without, bearers = policy["rules"]
    open_paths = [rule["match"]["path"] for rule in authn["rules"] if "requires" not in rule]
    assert policy["action"] == "ALLOW"
    assert without == {"to": [{"operation": {"methods": ["GET"], "paths": open_paths}}]}
    assert bearers == {"from": [{"source": {"requestPrincipals": [f"{audience['issuer']}/*"]}}]}
    assert scale["PeerAuthentication", "recommender"]["mtls"] == {"mode": "STRICT"}


def test_the_mesh_refuses_as_envoy_does(scale, envoy):
    """A refusal is 401 in the contract's form; a token without an expiry is refused."""
    expires, form = (each["patch"] for each in scale["EnvoyFilter", "contract"]["configPatches"])
    settings = form["value"]["typed_config"]
    for name in ("local_reply_config", "preserve_external_request_id", "always_set_request_id_in_response"):
        assert settings[name] == envoy[name]
    rules = expires["value"]["typed_config"]["rules"]
    ((issuer, expiry),) = (each["and_ids"]["ids"] for each in rules["policies"]["never-expires"]["principals"])
    assert rules["action"] == "DENY" and issuer["metadata"]["value"] == {"present_match": True}
    time = expiry["not_id"]["metadata"]
    assert time["path"] == [{"key": "payload"}, {"key": "exp"}] and time["value"]["double_match"]["range"]["start"] == 1


def test_rules_about_tokens_select_the_gateway(scale):
    gateway = scale["Deployment", "gateway"]["template"]["metadata"]["labels"]
    selectors = [
        scale["Gateway", "recommender"]["selector"],
        scale["EnvoyFilter", "contract"]["workloadSelector"]["labels"],
    ]
    for kind in ("RequestAuthentication", "AuthorizationPolicy"):
        selectors.append(scale[kind, "listeners"]["selector"]["matchLabels"])
    for labels in selectors:
        assert labels.items() <= gateway.items() and labels["app.kubernetes.io/component"] == "gateway"


def test_the_canary_gets_one_request_in_twenty_and_every_route_has_a_service(scale):
    routes = [route for name in ("recommender", "api") for route in scale["VirtualService", name]["http"][0]["route"]]
    assert all(("Service", route["destination"]["host"]) in scale for route in routes)
    weights = {each["destination"]["subset"]: each["weight"] for each in routes if "subset" in each["destination"]}
    assert weights == {"stable": 95, "canary": 5}
    subsets = {each["name"]: each["labels"] for each in scale["DestinationRule", "api"]["subsets"]}
    for name, subset in (("api", "stable"), ("api-canary", "canary")):
        labels = scale["Deployment", name]["template"]["metadata"]["labels"]
        assert labels.items() >= {**subsets[subset], **scale["Service", "api"]["selector"]}.items()
    for (kind, _), spec in scale.items():
        if kind == "DestinationRule":
            assert ("Service", spec["host"]) in scale
            policy = spec["trafficPolicy"]
            assert policy["loadBalancer"]["localityLbSetting"]["failover"] and policy["outlierDetection"]


def test_compose_and_the_manifests_use_commands_of_the_entry_point():
    lines = re.findall(r"^([a-z |]+)\)", (DEPLOY / "entrypoint.sh").read_text(), re.M)
    commands = {name.strip() for line in lines for name in line.split("|")}
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    assert {service["command"][0] for service in services.values()} - commands == {"mlflow"}  # a program of the image
    for file in (DEPLOY / "kubernetes").rglob("*.yaml"):
        assert set(re.findall(r"args: \[(\w+)", file.read_text())) <= commands


def test_conda_installs_the_pinned_packages_only():
    dependencies = yaml.safe_load((paths.ROOT / "environment.yml").read_text())["dependencies"]
    (conda,) = (each for each in dependencies if isinstance(each, dict))
    assert conda["pip"] == ["--requirement requirements.txt", "--constraint constraints.txt", "--editable ."]


def pins(name: str) -> dict[str, str]:
    """Return the versions in a list of packages, by normalized names."""
    lines = re.findall(r"^([\w.-]+)(?:\[.*\])?==(\S+)", (paths.ROOT / name).read_text(), re.M)
    return {re.sub(r"[._-]+", "-", package).lower(): version for package, version in lines}


def test_the_lists_of_packages_agree_with_the_lock_file():
    lock, service, tests = pins("constraints.txt"), pins("requirements.txt"), pins("requirements-dev.txt")
    assert not service.keys() & tests.keys()
    assert (service | tests).items() <= lock.items()


def test_the_lakes_environment_has_the_versions_that_write_and_read_its_files():
    """Its pandas is older: Spark needs pandas 2."""
    lock, events = pins("constraints.txt"), pins("deploy/scale/events/requirements.txt")
    assert all(events[name] == lock[name] for name in ("pyarrow", "pydantic", "numpy", "threadpoolctl"))
    assert events["confluent-kafka"] == pins("deploy/scale/requirements.txt")["confluent-kafka"]
