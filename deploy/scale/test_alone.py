"""Processes that a killed server, or a killed tier, leaves behind."""

from contextlib import suppress

import psutil
import pytest

from deploy.scale import alone


@pytest.fixture
def server():
    """Return a function that starts a server with a process of its own, and returns both. All are killed at the end."""
    started = []

    def start(name: str, own_group: bool = False) -> tuple[psutil.Process, psutil.Process]:
        script = f"{'set -m; ' * own_group}sh -c 'sleep 60; : {name}' & wait"
        leader = psutil.Popen(["bash", "-c", script], start_new_session=True)
        while not (children := leader.children()):
            pass
        started.extend([leader, *children])
        return leader, children[0]

    yield start
    for process in started:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def test_a_process_whose_server_was_killed_is_ended_and_no_other(server):
    """It has no port in its command line, as Triton's own process for a model."""
    (dead, left), (_, used), (other, stranger) = server("one-7f3"), server("one-7f3"), server("two-7f3")
    for leader in (dead, other):
        leader.kill()
        leader.wait()
    assert left.is_running()
    alone.end_left_over("one-7f3", "--port 1")
    assert not left.is_running() and used.is_running() and stranger.is_running()


def test_all_groups_of_a_session_are_ended(server):
    """The session's first process is gone: Supervisor was killed."""
    (killed, left), (_, other) = server("any", own_group=True), server("any", own_group=True)
    killed.kill()
    killed.wait()
    assert left.is_running()
    alone.end_session(killed.pid)
    psutil.wait_procs([left], 5)
    assert not left.is_running() and other.is_running()
