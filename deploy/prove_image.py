"""Build the image without Docker, start it, ask it, run its tests, stop it, and see what it wrote.

    python deploy/prove_image.py            as root on Linux, with Debian's buildah and debootstrap

buildah builds with chroot isolation on a base that debootstrap makes, named as the Dockerfile's FROM names it. The
image then runs in namespaces of its own, by its own user, with a root that cannot be written; /tmp and /app/outputs are
volumes. Health checks and limits are Docker's: they are not exercised this way.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
IMAGE, BASE, USER = "localhost/music-recommender", "debian:bookworm-slim", 10001
LARGEST = 2.5e9  # bytes of all files of the image
LISTED = 30  # of its largest folders
LATEST = 30  # seconds from the start to the first answer
# A run that is made in two minutes: it is the image that is proven, not the model. "static_texts=0" is docker build's.
SMALL = "n_tracks=400 n_requests=300 n_pairs=128 debug_tracks=200 min_per_mood=5 static_texts=0"
ASKED = (
    {"text": "Uplifting EDM track with hype vocals and a build-up structure"},
    {"text": "Jazzy lo-fi beats for studying", "num_recommendations": 3},
)
TESTS = ("tests/test_data.py", "tests/test_evaluation.py")  # those that make no run and train nothing
NOT_SLIM = ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache/apt")  # which Debian's slim image has not
VOLUMES = ("tmp", "app/outputs")
# Mounts that a container has, then the image's own command by its own user.
INSIDE = """set -e
mount --bind "$1" "$1" && mount -o remount,ro,bind "$1"
mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev"
mount --bind "$2/tmp" "$1/tmp" && mount --bind "$2/app/outputs" "$1/app/outputs"
test ! -e /etc/resolv.conf || mount --bind /etc/resolv.conf "$1/etc/resolv.conf" 2>/dev/null || true
root=$1 user=$3 && shift 3
exec chroot --userspec="$user:$user" "$root" /usr/bin/env -i --chdir=/app "$@"
"""


@cache
def driver() -> str:
    """How buildah keeps layers: what each changed, where this machine can lay one over another; else all of it."""
    tried = subprocess.run(["buildah", "--storage-driver", "overlay", "info"], capture_output=True, check=False)
    return "vfs" if tried.returncode else "overlay"


def buildah(*args: str, shown: bool = False) -> str:
    """What a command of buildah prints, unless it is shown as it comes."""
    command = ["buildah", "--storage-driver", driver(), *args]
    ran = subprocess.run(command, check=True, text=True, stdout=None if shown else subprocess.PIPE)
    return (ran.stdout or "").strip()


def make_base() -> None:
    """Debian's smallest system, under the name that the Dockerfile builds on, unless it is there."""
    if BASE.split(":")[1] in buildah("images", "--filter", f"reference={BASE}", "--format", "{{.Tag}}").split():
        return
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["debootstrap", "--variant=minbase", "bookworm", folder], check=True, stdout=subprocess.DEVNULL)
        for left_out in NOT_SLIM:
            shutil.rmtree(Path(folder, left_out))
            Path(folder, left_out).mkdir()
        container = buildah("from", "scratch")
        buildah("add", "--quiet", container, folder, "/")
        buildah("commit", "--quiet", "--rm", container, f"docker.io/library/{BASE}")


def pip_settings(folder: Path) -> list[str]:
    """This machine's own sources of packages, for the build: pip's configuration, and the places that it names."""
    pip = [sys.executable, "-m", "pip", "config", "list"]
    said = subprocess.run(pip, capture_output=True, text=True, check=True).stdout.splitlines()
    # What the environment sets comes last and counts.
    values = {key.rpartition(".")[2]: ast.literal_eval(value) for key, value in (line.split("=", 1) for line in said)}
    mounts = {}
    for word in " ".join(values.values()).split():
        path = Path(urlsplit(word).path)
        if not path.is_absolute() or not path.exists():
            continue  # a number, an address
        if path.is_file():  # the image may have one of that name
            mounts[path] = Path("/etc/pip") / path.name
            values = {key: value.replace(str(path), str(mounts[path])) for key, value in values.items()}
        else:  # an index that is a folder names files beside itself
            place = path.parent if word.startswith("file:") else path
            mounts[place] = place
    file = folder / "pip.conf"
    file.write_text("\n".join(["[global]", *(f"{key} = {value}" for key, value in values.items())]))
    mounts[file] = Path("/etc/pip.conf")
    # The wheel of PyTorch may lie in a folder here; else it comes from where the Dockerfile says.
    torch = ["--build-arg", "TORCH_INDEX="] if "find-links" in values else []
    return [*torch, *(arg for here, there in mounts.items() for arg in ("--volume", f"{here}:{there}:ro"))]


def build(run: str) -> None:
    """Build the image, with a run of these parameters in it."""
    with tempfile.TemporaryDirectory() as folder:
        buildah(
            "bud", "--format", "docker", "--pull-never", "--isolation", "chroot", *pip_settings(Path(folder)),
            "--build-arg", f"SET={run}", "--tag", IMAGE, str(ROOT), shown=True,
        )  # fmt: skip


def cuda_resolves() -> None:
    """See that the packages of the CUDA image, which needs no GPU to be built, are there and fit each other."""
    ours = {key: value for key, value in os.environ.items() if key not in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL")}
    lists = ["-r", str(ROOT / "requirements.txt"), "-c", str(ROOT / "constraints.txt")]
    how = ["--dry-run", "--ignore-installed", "--only-binary", ":all:", "--index-url", "https://pypi.org/simple"]
    with tempfile.NamedTemporaryFile() as report:
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", *how, "--report", report.name, *lists],
            check=True, env=ours | {"PIP_CONFIG_FILE": os.devnull},
        )  # fmt: skip
        found = [one["metadata"] for one in json.load(report)["install"]]
    cuda = [f"{one['name']} {one['version']}" for one in found if one["name"].startswith(("nvidia", "torch"))]
    print(f"{len(found)} packages, of them of CUDA: {', '.join(sorted(cuda))}")


@contextmanager
def mounted():
    """The image's files, and what it says of itself."""
    container = buildah("from", "--pull-never", IMAGE)
    try:
        about = json.loads(buildah("inspect", "--type", "image", IMAGE))["OCIv1"]["config"]
        yield Path(buildah("mount", container)), about
    finally:
        buildah("rm", container)


def start(root: Path, volumes: Path, about: dict, *command: str) -> subprocess.Popen:
    """The image's command, or another, in namespaces of its own."""
    whole = [*about["Env"], *about["Entrypoint"], *(command or about["Cmd"])]
    unshared = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", INSIDE, "sh"]
    return subprocess.Popen([*unshared, str(root), str(volumes), str(USER), *whole])


def ask(port: int, path: str, body: dict | None = None) -> dict:
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def wait_for(port: int, process: subprocess.Popen, limit: float) -> None:
    ends = time.monotonic() + limit
    while process.poll() is None and time.monotonic() < ends:
        try:
            ask(port, "/ready")
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    sys.exit(f"not ready after {limit} s" if process.poll() is None else f"ended with status {process.returncode}")


def serve(root: Path, volumes: Path, about: dict) -> None:
    """Start, ask, stop: each said with its seconds."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = time.monotonic()
    process = start(root, volumes, about, "serve", "--ip", "127.0.0.1", "--port", str(port))
    try:
        wait_for(port, process, 2 * LATEST)
        for body in ASKED:
            tracks = ask(port, "/recommend", body)["tracks"]
            assert len(tracks) == body.get("num_recommendations", 5)
            print(f"{time.monotonic() - started:5.1f} s  {body['text']}: {tracks[0]['title']} [{tracks[0]['mood']}]")
        seconds = time.monotonic() - started
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        stopping = time.monotonic()
        subprocess.run(["kill", "-TERM", *children], check=True)
        status = process.wait(30)
        print(f"{time.monotonic() - stopping:5.1f} s  from SIGTERM to the end, status {status}")
    finally:
        process.send_signal(signal.SIGKILL)
    if seconds > LATEST or status != 0:
        sys.exit(f"answered after {seconds:.1f} s of {LATEST}, ended with status {status} and not 0")


def size(root: Path) -> int:
    """-> bytes of all the image's files; what most of them are is said."""
    packages = "app/.venv/lib/python3.11/site-packages"
    command = ["du", "-x", "--apparent-size", "--block-size=1", "."]
    said = subprocess.run(command, check=True, capture_output=True, text=True, cwd=root).stdout.splitlines()
    sizes = {path.removeprefix("./"): int(size) for size, path in (row.split("\t") for row in said)}
    shown = {path: size for path, size in sizes.items() if path.count("/") < 2 or path.rpartition("/")[0] == packages}
    largest = sorted(shown, key=shown.get, reverse=True)[:LISTED]
    print("\n".join(f"{sizes[path] / 1e6:9,.0f} MB  {path}" for path in largest))
    return sizes["."]


def main() -> int:
    """0 when all of it holds; else what did not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", default=SMALL, help="parameters of the run that is built in (default: %(default)s)")
    parser.add_argument("--cuda", action="store_true", help="build nothing: do the packages of the CUDA image resolve?")
    args = parser.parse_args()
    if args.cuda:
        cuda_resolves()
        return 0
    begun = time.monotonic()
    make_base()
    print(f"{time.monotonic() - begun:5.0f} s  the base is there")
    build(args.set)
    print(f"{time.monotonic() - begun:5.0f} s  the image is built")
    with mounted() as (root, about), tempfile.TemporaryDirectory() as folder:
        bytes_ = size(root)
        print(f"       {bytes_ / 1e9:.2f} GB")
        volumes = Path(folder)
        for name in VOLUMES:
            (volumes / name).mkdir(parents=True)
            (volumes / name).chmod(0o1777)
        serve(root, volumes, about)
        command = ("env", "HF_HUB_OFFLINE=1", "python", "-m", "pytest", "-p", "no:cacheprovider", *TESTS)
        failed = start(root, volumes, about, *command).wait()
        written = (str(file.relative_to(volumes)) for file in volumes.glob("app/outputs/*"))
        print("written:", *sorted(written))
    if bytes_ > LARGEST or failed:
        sys.exit(f"{bytes_ / 1e9:.2f} GB of {LARGEST / 1e9}; tests ended with status {failed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
