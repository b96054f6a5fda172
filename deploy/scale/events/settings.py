"""The settings of the parts between the log and the lake: environment variables, and the file of the shipper."""

import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

from jinja2 import Template

from lib.core.paths import ROOT

PYTHON = ROOT / ".venv-events" / "bin" / "python"
NAME = "deploy.scale.events"
PROGRAMS = {"syslog-ng": "syslog-ng-core syslog-ng-mod-rdkafka", "java": "openjdk-17-jre-headless"}
# The command of each part.
ENGINES = {
    "objects": [str(PYTHON), "-m", f"{NAME}.objects", "{home}/objects", "{ports.objects}"],
    "broker": [str(PYTHON), "-m", f"{NAME}.launch", "broker", "{home}"],
    "shipper": [str(PYTHON), "-m", f"{NAME}.launch", "shipper", "{home}"],
    "lake": ["nice", "-n", "10", str(PYTHON), "-m", f"{NAME}.lake"],  # answers come first
    "features": [str(PYTHON), "-m", f"{NAME}.launch", "features", "{home}", "{ports.features}"],
    "trends": ["nice", "-n", "5", sys.executable, "-m", f"{NAME}.trends"],
}


def engines() -> list[str]:
    """Return the parts to start: not the broker, the store or the features that a variable names elsewhere."""
    elsewhere = {"broker": "BROKERS", "objects": "S3", "features": "FEATURES"}
    return [part for part in ENGINES if elsewhere.get(part, "") not in os.environ]


def command(part: str, home: Path, ports: SimpleNamespace) -> list[str]:
    """Return the command of a part."""
    return [word.format(home=home, ports=ports) for word in ENGINES[part]]


def missing(path: str) -> str:
    """Return a line that names what the events lack on this machine, "" if all is there."""
    packages = [package for program, package in PROGRAMS.items() if not shutil.which(program, path=path)]
    lines = [f"apt-get install {' '.join(packages)}"] if packages else []
    lines += [] if PYTHON.exists() else ["make .venv/.scale"]
    return " and ".join(lines)


def settings(home: Path, ports: SimpleNamespace) -> dict[str, str]:
    """Return the environment variables of all parts. Those that are set already stay: they name parts elsewhere."""
    ours = {
        "EVENTS": f"{home}/events",
        "FEATURES": f"redis://127.0.0.1:{ports.features}",
        "BROKERS": f"127.0.0.1:{ports.broker}",
        "S3": f"http://127.0.0.1:{ports.objects}",
        "LAKE": "s3://lake/events",
        "CHECKPOINT": f"{home}/checkpoint",
        "TANSU": "tansu/clusters/tansu_cluster",
        # The stand-in for S3 checks no credentials, but its clients want some.
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    ours |= {name: os.environ[name] for name in ours if name in os.environ}
    return ours | {"TANSU": "" if "BROKERS" in os.environ else ours["TANSU"]}


def write_shipper(home: Path, ports: SimpleNamespace) -> None:
    """Write the shipper's settings."""
    template = Template((Path(__file__).parent / "syslog-ng.conf.j2").read_text())
    values = settings(home, ports)
    Path(values["EVENTS"]).mkdir(parents=True, exist_ok=True)  # the shipper does not start without it
    (home / "syslog-ng.conf").write_text(template.render(values))
