"""What the service is shipped with: the Dockerfile, the compose file, the Kubernetes manifests, conda's list."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import jinja2
import pytest
import yaml

from lib.core import paths

DEPLOY = paths.ROOT / "deploy"


def overlay(name: str) -> str:
    """What an overlay gives the cluster."""
    if not shutil.which("kubectl"):
        pytest.skip("kubectl, which puts the overlays together, is not installed")
    command = ["kubectl", "kustomize", str(DEPLOY / "kubernetes" / name)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(params=["cpu", "gpu", "scale"])
def manifests(request) -> str:
    """Each overlay."""
    return overlay(request.param)


@pytest.fixture(params=["cpu", "gpu"])
def service(request) -> str:
    """Each overlay of the one service."""
    return overlay(request.param)


@pytest.fixture
def scale() -> dict[tuple[str, str], dict]:
    """What the scaled-out tier gives the cluster, by kind and name."""
    return {(one["kind"], one["metadata"]["name"]): one.get("spec") for one in yaml.safe_load_all(overlay("scale"))}


@pytest.fixture
def audience() -> dict[str, str]:
    """Whose tokens the scaled-out tier takes, and for whom they are. Read, since what says so needs its packages."""
    code = "".join(file.read_text() for file in (DEPLOY / "scale").glob("*.py"))
    ((issuer, audience),) = re.findall('^ISSUER, AUDIENCE = "(.+)", "(.+)"$', code, re.M)
    return {"issuer": issuer, "audience": audience}


@pytest.fixture
def door(audience) -> dict:
    """What Envoy is told of requests in the scaled-out tier of one machine."""
    template = jinja2.Template((DEPLOY / "scale/envoy.yaml.j2").read_text(), trim_blocks=True)
    told = yaml.safe_load(template.render(ports={}, replicas=0, home="", **audience))
    return told["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]


def containers(manifests: str) -> list[tuple[dict, dict]]:
    """Each pod and container."""
    found = [one.get("spec", {}) for one in yaml.safe_load_all(manifests)]
    pods = [spec["template"]["spec"] for spec in found if "template" in spec]
    return [(pod, container) for pod in pods for container in pod["containers"]]


def test_the_dockerfile_has_no_fault_that_hadolint_knows():
    if not (dockerfile := paths.ROOT / "Dockerfile").exists():
        pytest.skip("the image does not hold what it was made from")
    hadolint = Path(sys.executable).with_name("hadolint")
    found = subprocess.run([hadolint, dockerfile], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


def test_the_compose_file_is_as_compose_wants_it():
    check = [Path(sys.executable).with_name("check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    found = subprocess.run([*check, DEPLOY / "compose.yaml"], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


def test_manifests_are_as_kubernetes_wants_them(manifests, tmp_path):
    file = tmp_path / "all.yaml"
    file.write_text(manifests)
    command = [Path(sys.executable).with_name("kubernetes-validate"), "--strict", file]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


def test_the_training_is_as_kubernetes_wants_it():
    check = [Path(sys.executable).with_name("kubernetes-validate"), "--strict"]
    found = subprocess.run([*check, DEPLOY / "kubernetes/gpu/train.yaml"], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


def test_only_the_service_is_cut_off(service):
    """An empty selector would be every pod of the namespace, whoever's."""
    found = [yaml.safe_load(part) for part in service.split("\n---\n")]
    (policy,) = (one["spec"] for one in found if one["kind"] == "NetworkPolicy")
    (pod,) = (one["spec"]["template"]["metadata"] for one in found if one["kind"] == "Deployment")
    assert policy["podSelector"]["matchLabels"] == pod["labels"]


def test_the_entry_point_says_what_it_knows(tmp_path):
    entry = tmp_path / "entrypoint.sh"
    entry.write_text((DEPLOY / "entrypoint.sh").read_text().replace("cd /app", f"cd {tmp_path}"))
    helped = subprocess.run(["sh", entry, "--help"], capture_output=True, text=True)
    assert helped.returncode == 0 and "playground" in helped.stdout
    wrong = subprocess.run(["sh", entry, "nonsense"], capture_output=True, text=True)
    assert wrong.returncode == 127 and "no command nonsense" in wrong.stderr


def test_no_manifest_holds_a_secret_or_gives_a_container_more_than_it_needs(manifests):
    assert "kind: Secret" not in manifests
    for pod, container in containers(manifests):
        assert pod["securityContext"]["runAsNonRoot"] and pod["automountServiceAccountToken"] is False
        bounds = container["securityContext"]
        assert bounds["readOnlyRootFilesystem"] and not bounds["allowPrivilegeEscalation"]
        assert bounds["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["requests"] and "memory" in container["resources"]["limits"]


def test_pods_are_replaced_without_a_gap(manifests):
    deployments = [one["spec"] for one in yaml.safe_load_all(manifests) if one["kind"] == "Deployment"]
    assert deployments
    for deployment in deployments:
        assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_a_service_that_cannot_answer_is_not_asked(service):
    ((_, container),) = containers(service)
    assert container["readinessProbe"]["httpGet"]["path"] == "/ready"


def test_the_tier_cuts_off_its_own_pods_only_and_each_of_them(scale):
    ours = {"app.kubernetes.io/name": "music-recommender-scale"}
    policies = [spec for (kind, _), spec in scale.items() if kind == "NetworkPolicy"]
    assert all(spec["podSelector"]["matchLabels"].items() >= ours.items() for spec in policies)
    (each,) = (spec for spec in policies if spec["podSelector"] == {"matchLabels": ours})
    assert each["policyTypes"] == ["Ingress", "Egress"]
    pods = [spec["template"]["metadata"]["labels"] for (kind, _), spec in scale.items() if kind == "Deployment"]
    assert all(labels.items() >= ours.items() and labels["sidecar.istio.io/inject"] == "true" for labels in pods)


def test_a_gpu_whose_memory_was_over_seven_tenths_for_two_minutes_asks_for_another(scale):
    scaled = scale["ScaledObject", "triton"]
    assert ("Deployment", scaled["scaleTargetRef"]["name"]) in scale
    memory, load = scaled["triggers"]
    assert memory["metricType"] == "Value" and memory["metadata"]["threshold"] == "0.7"
    share = r"nv_gpu_memory_used_bytes{.+} / nv_gpu_memory_total_bytes{.+}"
    rule = rf"max\(min_over_time\(\( {share} \)\[2m:\d+s\]\) and nv_gpu_memory_total_bytes offset 2m\)"
    assert re.fullmatch(rule, memory["metadata"]["query"])
    assert "nv_inference_queue_duration_us" in load["metadata"]["query"]
    # Of what is within a tenth of the threshold an autoscaler makes nothing, if it is not told to.
    behaviour = scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behaviour["scaleUp"]["tolerance"] == "0"


def test_the_mesh_gives_a_request_the_time_and_the_tries_that_envoy_gives_it(scale, door):
    ((route,),) = (host["routes"] for host in door["route_config"]["virtual_hosts"])
    told, again = route["route"], route["route"]["retry_policy"]
    assert told["timeout"] == "1s"
    for name in ("recommender", "api"):
        (rule,) = scale["VirtualService", name]["http"]
        assert rule["timeout"] == told["timeout"]
        tries = (rule["retries"]["attempts"], rule["retries"]["retryOn"])
        assert tries == (again["num_retries"], again["retry_on"])


def test_the_mesh_takes_whom_envoy_takes(scale, door, audience):
    (login,) = scale["RequestAuthentication", "listeners"]["jwtRules"]
    assert (login["issuer"], login["audiences"]) == (audience["issuer"], [audience["audience"]])
    assert not login.get("forwardOriginalToken")  # the cache must not see who asks
    authn = next(one["typed_config"] for one in door["http_filters"] if one["name"].endswith("jwt_authn"))
    taken = {one["name"]: one["value_prefix"] for one in next(iter(authn["providers"].values()))["from_headers"]}
    assert {one["name"]: one["prefix"] for one in login["fromHeaders"]} == taken
    policy = scale["AuthorizationPolicy", "listeners"]
    without, bearers = policy["rules"]
    open_paths = [rule["match"]["path"] for rule in authn["rules"] if "requires" not in rule]
    assert policy["action"] == "ALLOW"
    assert without == {"to": [{"operation": {"methods": ["GET"], "paths": open_paths}}]}
    assert bearers == {"from": [{"source": {"requestPrincipals": [f"{audience['issuer']}/*"]}}]}
    assert scale["PeerAuthentication", "recommender"]["mtls"] == {"mode": "STRICT"}


def test_the_mesh_refuses_as_envoy_does(scale, door):
    """401 in the contract's form, and no token that is good for ever."""
    expires, form = (one["patch"] for one in scale["EnvoyFilter", "contract"]["configPatches"])
    told = form["value"]["typed_config"]
    for name in ("local_reply_config", "preserve_external_request_id", "always_set_request_id_in_response"):
        assert told[name] == door[name]
    rules = expires["value"]["typed_config"]["rules"]
    ((has, hasnt),) = (who["and_ids"]["ids"] for who in rules["policies"]["never-expires"]["principals"])
    assert rules["action"] == "DENY" and has["metadata"]["value"] == {"present_match": True}
    time = hasnt["not_id"]["metadata"]
    assert time["path"] == [{"key": "payload"}, {"key": "exp"}] and time["value"]["double_match"]["range"]["start"] == 1


def test_who_says_who_may_come_in_speaks_of_the_door(scale):
    gateway = scale["Deployment", "gateway"]["template"]["metadata"]["labels"]
    chosen = [
        scale["Gateway", "recommender"]["selector"],
        scale["EnvoyFilter", "contract"]["workloadSelector"]["labels"],
    ]
    for kind in ("RequestAuthentication", "AuthorizationPolicy"):
        chosen.append(scale[kind, "listeners"]["selector"]["matchLabels"])
    for labels in chosen:
        assert labels.items() <= gateway.items() and labels["app.kubernetes.io/component"] == "gateway"


def test_one_in_twenty_is_the_canarys_and_there_is_somebody_at_every_address(scale):
    routes = [route for name in ("recommender", "api") for route in scale["VirtualService", name]["http"][0]["route"]]
    assert all(("Service", route["destination"]["host"]) in scale for route in routes)
    weights = {one["destination"]["subset"]: one["weight"] for one in routes if "subset" in one["destination"]}
    assert weights == {"stable": 95, "canary": 5}
    subsets = {one["name"]: one["labels"] for one in scale["DestinationRule", "api"]["subsets"]}
    for name, subset in (("api", "stable"), ("api-canary", "canary")):
        labels = scale["Deployment", name]["template"]["metadata"]["labels"]
        assert labels.items() >= {**subsets[subset], **scale["Service", "api"]["selector"]}.items()
    for (kind, _), spec in scale.items():
        if kind == "DestinationRule":
            assert ("Service", spec["host"]) in scale
            policy = spec["trafficPolicy"]
            assert policy["loadBalancer"]["localityLbSetting"]["failover"] and policy["outlierDetection"]


def test_what_the_image_is_told_to_run_is_what_it_knows():
    """The commands of compose.yaml and of the manifests are those of the entry point."""
    known = re.findall(r"^([a-z |]+)\)", (DEPLOY / "entrypoint.sh").read_text(), re.M)
    known = {name.strip() for line in known for name in line.split("|")}
    composed = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    assert {one["command"][0] for one in composed.values()} - known == {"mlflow"}  # which the image has by itself
    for file in (DEPLOY / "kubernetes").rglob("*.yaml"):
        for said in re.findall(r"args: \[(\w+)", file.read_text()):
            assert said in known


def test_conda_takes_the_pinned_list_and_nothing_else():
    (conda,) = [
        one
        for one in yaml.safe_load((paths.ROOT / "environment.yml").read_text())["dependencies"]
        if isinstance(one, dict)
    ]
    assert conda["pip"] == ["--requirement requirements.txt", "--constraint constraints.txt", "--editable ."]
