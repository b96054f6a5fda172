"""Start a server after ending the remains of a killed one on its port.

    python -m deploy.scale.alone 8003 mlflow.server mlflow server --port 8003

A killed server cannot end the processes that it started: they survive and keep the port.
"""

import os
import sys

import psutil


def end_left_over(name: str, port: str) -> None:
    """Kill the processes whose command line contains both the name and the port."""
    for process in psutil.process_iter(["cmdline"]):
        line = f"{' '.join(process.info['cmdline'] or ())} "
        if name in line and f"{port} " in line and process.pid != os.getpid():
            process.kill()
            process.wait()


if __name__ == "__main__":
    port, name, *command = sys.argv[1:]
    end_left_over(name, f"--port {port}")
    os.execvp(command[0], command)
