"""Start a server after ending the remains of a killed one; end what a stopped tier left.

    python -m deploy.scale.alone 8003 mlflow.server mlflow server --port 8003

A killed server cannot end the processes that it started: they survive, and one of them keeps the port.
"""

import os
import sys
from contextlib import suppress

import psutil


def end_left_over(name: str, port: str) -> None:
    """Kill the processes whose command line contains the name, and the port or nobody who leads their group any more.

    Supervisor makes each part the leader of a group of its own.
    """
    for process in psutil.process_iter(["cmdline"]):
        line = f"{' '.join(process.info['cmdline'] or ())} "
        with suppress(ProcessLookupError):
            stale = f"{port} " in line or not psutil.pid_exists(os.getpgid(process.pid))
            if name in line and stale and process.pid != os.getpid():
                process.kill()
                process.wait()


def end_session(leader: int) -> None:
    """Kill all processes of a session, in whichever group. `leader` is the process that began it."""
    for process in psutil.process_iter():
        with suppress(ProcessLookupError):
            if os.getsid(process.pid) == leader:
                os.kill(process.pid, 9)


if __name__ == "__main__":
    port, name, *command = sys.argv[1:]
    end_left_over(name, f"--port {port}")
    os.execvp(command[0], command)
