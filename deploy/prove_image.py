"""Build the image without Docker, start it, send requests, stop it; then build the image of the tests and run some.

    python deploy/prove_image.py            as root on Linux, with Debian's buildah and debootstrap

buildah builds with chroot isolation on a base made by debootstrap, under the name in the Dockerfile's FROM. The image
runs in its own namespaces, as its own user, with a read-only root; /tmp and /app/outputs are volumes. Health checks and
limits need Docker: they are not tested.
"""

import argparse
import ast
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
IMAGE, BASE, USER = "localhost/music-recommender", "debian:bookworm-slim", 10001
LARGEST = 2.5e9  # bytes of all files of the image
FOLDERS = 30  # of the image's largest folders, to print
LATEST = 30  # seconds from the start to the first answer
# A run that takes two minutes: the image is tested, not the model. The Dockerfile sets "static_texts=0", too.
SMALL = "n_tracks=400 n_requests=300 n_pairs=128 debug_tracks=200 min_per_mood=5 static_texts=0"
REQUESTS = (
    {"text": "Uplifting EDM track with hype vocals and a build-up structure"},
    {"text": "Jazzy lo-fi beats for studying", "num_recommendations": 3},
)
TESTS = ("tests/tracks", "tests/performance", "-m", "not slow")
NOT_SLIM = ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache/apt")  # empty in Debian's slim image
VOLUMES = ("tmp", "app/outputs")
# The mounts of a container, then the image's own command as its own user.
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
    """Return buildah's storage driver: overlay if this machine supports it, else vfs, which copies every layer."""
    process = subprocess.run(["buildah", "--storage-driver", "overlay", "info"], capture_output=True, check=False)
    return "vfs" if process.returncode else "overlay"


def buildah(*args: str, show: bool = False) -> str:
    """Run a command of buildah. Return its output, or show it at once."""
    command = ["buildah", "--storage-driver", driver(), *args]
    process = subprocess.run(command, check=True, text=True, stdout=None if show else subprocess.PIPE)
    return (process.stdout or "").strip()


def make_base() -> None:
    """Make Debian's smallest system under the name of the Dockerfile's base, unless it exists."""
    if BASE.split(":")[1] in buildah("images", "--filter", f"reference={BASE}", "--format", "{{.Tag}}").split():
        return
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["debootstrap", "--variant=minbase", "bookworm", folder], check=True, stdout=subprocess.DEVNULL)
        for name in NOT_SLIM:
            shutil.rmtree(Path(folder, name))
            Path(folder, name).mkdir()
        container = buildah("from", "scratch")
        buildah("add", "--quiet", container, folder, "/")
        buildah("commit", "--quiet", "--rm", container, f"docker.io/library/{BASE}")


def pip_settings(folder: Path) -> list[str]:
    """Return buildah's options that give the build this machine's package sources: pip's settings and their files."""
    pip = [sys.executable, "-m", "pip", "config", "list"]
    lines = subprocess.run(pip, capture_output=True, text=True, check=True).stdout.splitlines()
    # Values of environment variables come last, and win.
    values = {key.rpartition(".")[2]: ast.literal_eval(value) for key, value in (line.split("=", 1) for line in lines)}
    mounts = {}
    for word in " ".join(values.values()).split():
        path = Path(urlsplit(word).path)
        if not path.is_absolute() or not path.exists():
            continue  # a number, or an address
        if path.is_file():  # the image may have a file of this name
            mounts[path] = Path("/etc/pip") / path.name
            values = {key: value.replace(str(path), str(mounts[path])) for key, value in values.items()}
        else:  # an index in a folder refers to files beside the folder
            place = path.parent if word.startswith("file:") else path
            mounts[place] = place
    file = folder / "pip.conf"
    file.write_text("\n".join(["[global]", *(f"{key} = {value}" for key, value in values.items())]))
    mounts[file] = Path("/etc/pip.conf")
    # A local folder may hold PyTorch's wheel; otherwise it comes from the Dockerfile's index.
    torch = ["--build-arg", "TORCH_INDEX="] if "find-links" in values else []
    return [*torch, *(arg for source, target in mounts.items() for arg in ("--volume", f"{source}:{target}:ro"))]


def build(tag: str, *options: str) -> None:
    """Build an image from the repository."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["bud", "--format", "docker", "--pull-never", "--isolation", "chroot", *pip_settings(Path(folder))]
        buildah(*command, *options, "--tag", tag, str(ROOT), show=True)


def build_tests() -> str:
    """Build the Dockerfile's stage `test` on the image, without its other stages. Return the name of the result."""
    (stage,) = re.findall(r"^FROM service AS test\n(.*?)(?=^FROM )", (ROOT / "Dockerfile").read_text(), re.M | re.S)
    with tempfile.NamedTemporaryFile("w", suffix=".Dockerfile") as file:
        file.write(f"FROM {IMAGE}\n{stage}")
        file.flush()
        build(f"{IMAGE}:test", "--file", file.name)
    return f"{IMAGE}:test"


def cuda_resolves() -> None:
    """Check that the packages of the CUDA image exist and fit each other. It needs no GPU."""
    local = ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL")
    environment = {key: value for key, value in os.environ.items() if key not in local}
    lists = ["-r", str(ROOT / "requirements.txt"), "-c", str(ROOT / "constraints.txt")]
    options = ["--dry-run", "--ignore-installed", "--only-binary", ":all:", "--index-url", "https://pypi.org/simple"]
    with tempfile.NamedTemporaryFile() as report:
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", *options, "--report", report.name, *lists],
            check=True, env=environment | {"PIP_CONFIG_FILE": os.devnull},
        )  # fmt: skip
        packages = [package["metadata"] for package in json.load(report)["install"]]
    names = (f"{package['name']} {package['version']}" for package in packages)
    cuda = sorted(name for name in names if name.startswith(("nvidia", "torch")))
    print(f"{len(packages)} packages, among them for CUDA: {', '.join(cuda)}")


@contextmanager
def mounted(image: str) -> Iterator[tuple[Path, dict]]:
    """Yield the folder of an image's files, and the image's settings."""
    container = buildah("from", "--pull-never", image)
    try:
        settings = json.loads(buildah("inspect", "--type", "image", image))["OCIv1"]["config"]
        yield Path(buildah("mount", container)), settings
    finally:
        buildah("rm", container)


@contextmanager
def volumes() -> Iterator[Path]:
    """Yield a folder with an empty folder for each volume."""
    with tempfile.TemporaryDirectory() as folder:
        for name in VOLUMES:
            Path(folder, name).mkdir(parents=True)
            Path(folder, name).chmod(0o1777)
        yield Path(folder)


def start(root: Path, folder: Path, settings: dict, *command: str) -> subprocess.Popen:
    """Start the image's command, or another one, in new namespaces."""
    line = [*settings["Env"], *settings["Entrypoint"], *(command or settings["Cmd"])]
    unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", INSIDE, "sh"]
    return subprocess.Popen([*unshare, str(root), str(folder), str(USER), *line])


def ask(port: int, path: str, body: dict | None = None) -> dict:
    """Send a request to the image. Return its JSON."""
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


def wait_for(port: int, process: subprocess.Popen, limit: float) -> None:
    """Wait until the image is ready; exit if it is not after `limit` seconds."""
    ends = time.monotonic() + limit
    while process.poll() is None and time.monotonic() < ends:
        try:
            ask(port, "/ready")
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    sys.exit(f"not ready after {limit} s" if process.poll() is None else f"ended with status {process.returncode}")


def serve(root: Path, folder: Path, settings: dict) -> None:
    """Start the service, send requests, stop it; print the seconds of each."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = time.monotonic()
    process = start(root, folder, settings, "serve", "--ip", "127.0.0.1", "--port", str(port))
    try:
        wait_for(port, process, 2 * LATEST)
        for body in REQUESTS:
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
        sys.exit(f"answered after {seconds:.1f} s, at most {LATEST} allowed; ended with status {status}, 0 expected")


def size(root: Path) -> int:
    """Print the largest folders of an image. Return the bytes of all its files."""
    packages = "app/.venv/lib/python3.11/site-packages"
    command = ["du", "-x", "--apparent-size", "--block-size=1", "."]
    lines = subprocess.run(command, check=True, capture_output=True, text=True, cwd=root).stdout.splitlines()
    sizes = {path.removeprefix("./"): int(size) for size, path in (line.split("\t") for line in lines)}
    folders = [path for path in sizes if path.count("/") < 2 or path.rpartition("/")[0] == packages]
    for path in sorted(folders, key=sizes.get, reverse=True)[:FOLDERS]:
        print(f"{sizes[path] / 1e6:9,.0f} MB  {path}")
    print(f"{sizes['.'] / 1e9:9.2f} GB  in all, {LARGEST / 1e9} GB allowed")
    return sizes["."]


def main() -> int:
    """Return 0 if everything works; exit with the first error."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", default=SMALL, help="parameters of the image's run (default: %(default)s)")
    parser.add_argument("--cuda", action="store_true", help="only check that the packages of the CUDA image resolve")
    args = parser.parse_args()
    if args.cuda:
        cuda_resolves()
        return 0
    started = time.monotonic()
    make_base()
    print(f"{time.monotonic() - started:5.0f} s  the base exists")
    build(IMAGE, "--build-arg", f"SET={args.set}")
    print(f"{time.monotonic() - started:5.0f} s  the image is built")
    with mounted(IMAGE) as (root, settings), volumes() as folder:
        too_large = size(root) > LARGEST
        serve(root, folder, settings)
        print("written:", *sorted(str(file.relative_to(folder)) for file in folder.glob("app/outputs/*")))
    tests = build_tests()
    print(f"{time.monotonic() - started:5.0f} s  the image of the tests is built")
    with mounted(tests) as (root, settings), volumes() as folder:
        command = ("env", "HF_HUB_OFFLINE=1", "python", "-m", "pytest", "-p", "no:cacheprovider", *TESTS)
        status = start(root, folder, settings, *command).wait()
    if too_large:
        sys.exit("the image is too large")
    if status:
        sys.exit(f"the tests ended with status {status}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
