"""What the service is shipped with: the Dockerfile, the compose file, the Kubernetes manifests, conda's list."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lib import runs

DEPLOY = runs.ROOT / "deploy"


@pytest.fixture(params=["cpu", "gpu"])
def manifests(request) -> str:
    """What an overlay gives the cluster."""
    if not shutil.which("kubectl"):
        pytest.skip("kubectl, which puts the overlays together, is not installed")
    command = ["kubectl", "kustomize", str(DEPLOY / "kubernetes" / request.param)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def containers(manifests: str) -> list[tuple[dict, dict]]:
    """Each pod and container."""
    found = [yaml.safe_load(part) for part in manifests.split("\n---\n")]
    pods = [one["spec"]["template"]["spec"] for one in found if "template" in one["spec"]]
    return [(pod, container) for pod in pods for container in pod["containers"]]


def test_the_dockerfile_has_no_fault_that_hadolint_knows():
    if not (dockerfile := runs.ROOT / "Dockerfile").exists():
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


def test_only_the_service_is_cut_off(manifests):
    """An empty selector would be every pod of the namespace, whoever's."""
    found = [yaml.safe_load(part) for part in manifests.split("\n---\n")]
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


def test_a_service_is_replaced_without_a_gap(manifests):
    deployment = next(one for one in map(yaml.safe_load, manifests.split("\n---\n")) if one["kind"] == "Deployment")
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/ready"


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
        for one in yaml.safe_load((runs.ROOT / "environment.yml").read_text())["dependencies"]
        if isinstance(one, dict)
    ]
    assert conda["pip"] == ["--requirement requirements.txt", "--constraint constraints.txt", "--editable ."]
