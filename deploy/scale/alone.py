"""Become a server, when what a killed one left on its port is ended.

    python -m deploy.scale.alone 8003 mlflow.server mlflow server --port 8003

Servers that start another process cannot take it with them when they are killed: it lives on, and has the port.
"""

from __future__ import annotations

import os
import sys

import psutil


def end_left_over(name: str, port: str) -> None:
    """Kill the processes of that name on that port, as their command lines say."""
    for one in psutil.process_iter(["cmdline"]):
        said = f"{' '.join(one.info['cmdline'] or ())} "
        if name in said and f"{port} " in said and one.pid != os.getpid():
            one.kill()
            one.wait()


if __name__ == "__main__":
    port, name, *command = sys.argv[1:]
    end_left_over(name, f"--port {port}")
    os.execvp(command[0], command)
