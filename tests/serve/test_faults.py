"""The gateway when things go wrong: kernels that die or hang, full queues, tokens, stopping, another run.

Real kernels behind the real gateway. They serve a notebook of a few lines, which starts in a second.
"""

import contextlib
import http.client
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import psutil
import pytest
from servers import START, Client, command, free_port, gateway, launched, point, wait_for

from lib.workbook import cli

pytestmark = pytest.mark.slow

PARAMETERS = 'run_dir = ""'
CELLS = [
    """
import asyncio, json, os, pathlib, sys, time
await asyncio.sleep(0)
%env STARTED=yes
name = pathlib.Path(run_dir, "model", "name").read_text()
print("start-up")
batch = 1""",
    """
if name == "broken": raise ValueError("half a model")
model = name""",
    """
# POST /recommend
text = json.loads(json.loads(REQUEST)["body"])["text"]
if text == "die": os._exit(1)
if text == "hang": time.sleep(60)
if text == "raise": raise ValueError("a secret")
if text == "print": print("stray"); sys.stderr.write("stray"); os.system("echo stray >&2")
if text == "slow": time.sleep(0.5)
if text == "brief": time.sleep(0.15)
tracks = [] if name == "songless" else [{"score": 0.5}]
answer = {"text": text, "model": model, "pid": os.getpid(), "batch": batch, "tracks": tracks}
print(json.dumps(answer, ensure_ascii=False))
if text == "print": print("stray")""",
    """
# Together POST /recommend
batch = len(REQUESTS)
if any("fail together" in request for request in REQUESTS): raise ValueError("together")""",
    """
# GET /ready
print(json.dumps({"model": model}))""",
    """
# ResponseInfo GET /ready
print(json.dumps({"status": 200, "headers": {"X-Started": os.environ["STARTED"]}}))""",
]
TOKEN = "s3crét"
LIMIT = 4  # seconds of the shared gateway for an answer: many times what one takes on busy cores


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    parameters = nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    cells = [parameters, *(nbformat.v4.new_code_cell(cell.strip()) for cell in CELLS)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python"}, "language_info": {"name": "python"}}
    path = tmp_path_factory.mktemp("notebook") / "tiny.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    return path


def tiny(folder, name="first"):
    """Make a folder that the tiny notebook takes for a run."""
    for part in ("model", "index"):
        (folder / part).mkdir(parents=True)
    (folder / "model" / "name").write_text(name)
    (folder / "index" / "index.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """The run that the shared gateway serves."""
    return tiny(tmp_path_factory.mktemp("runs") / "first")


@pytest.fixture(scope="module")
def spares(notebook, tmp_path_factory):
    """Gateways in groups of their own, for tests that end them. They start while the first tests run."""
    with contextlib.ExitStack() as stack:
        runs = [tiny(tmp_path_factory.mktemp("run") / "run") for _ in range(3)]
        yield [stack.enter_context(launched(run, notebook=notebook, start_new_session=True)) for run in runs]


@pytest.fixture
def spare(spares):
    """A gateway that the test may end."""
    running = spares.pop()
    running.wait_until_ready()
    return running


@pytest.fixture(scope="module")
def server(notebook, first, spares):
    """A gateway with two kernels that follows a link. Each test leaves it serving `first`."""
    link = first.with_name("current")
    point(link, first)
    with gateway(link, "--time-limit", str(LIMIT), notebook=notebook) as running:
        yield running


@pytest.fixture
def service(server):
    """The shared gateway, with both kernels ready."""
    wait_for(server.both_ready)
    return server


@pytest.fixture
def ask(service):
    return service.client


@pytest.fixture
def current(service, first):
    """The link that the shared gateway follows. It leads to `first` again after the test."""
    link = first.with_name("current")
    yield link
    point(link, first)
    wait_for(lambda: models(service) == {"first"})


@pytest.fixture(scope="module")
def single(notebook, tmp_path_factory):
    """A gateway with one kernel, a short queue, and a token."""
    options = ("--kernels", "1", "--queue", "4", "--batch", "1")
    with gateway(tiny(tmp_path_factory.mktemp("run") / "run"), *options, notebook=notebook, token=TOKEN) as running:
        yield running


def answers(running, text="brief", n=4):
    return [answer[1] for answer in running.client.together([text] * n)]


def pids(running):
    """Return the process ids of the kernels that answer; None for an error."""
    return {answer.get("pid") for answer in answers(running)}


def models(running):
    return {answer.get("model") for answer in answers(running)}


def test_a_kernel_that_dies_in_a_request_costs_that_request_alone(service, ask):
    started = time.monotonic()
    status, answer, headers = ask(body={"text": "die"})
    assert (status, answer["error"]["code"], headers["Retry-After"]) == (503, "unavailable", "1")
    assert time.monotonic() - started < LIMIT
    assert ask(body={"text": "a"})[0] == 200  # from the other kernel
    wait_for(service.both_ready)
    assert "recommend_kernels_replaced_total" in ask("/metrics")[1]


def test_a_kernel_that_dies_while_idle_is_replaced(service, ask):
    dead = ask(body={"text": "a"})[1]["pid"]
    os.kill(dead, signal.SIGKILL)
    time.sleep(0.3)
    for _ in range(20):
        status, answer, _ = ask(body={"text": "a"})
        assert status == 200 and answer["pid"] != dead
    wait_for(service.both_ready)
    assert dead not in pids(service)


def test_the_process_that_kernels_are_forked_from_may_die(service, ask):
    before = pids(service)
    forker = psutil.Process(next(iter(before))).parent()
    assert forker.ppid() == service.process.pid
    forker.kill()
    time.sleep(0.3)
    assert pids(service) <= before  # the kernels work on
    dead = ask(body={"text": "a"})[1]["pid"]
    os.kill(dead, signal.SIGKILL)
    wait_for(lambda: service.both_ready() and not {dead, None} & pids(service))
    [survivor] = before - {dead}
    while psutil.pid_exists(survivor):  # it can still be ended at the time limit
        service.client.together(["hang"] * 2)
    wait_for(service.both_ready)


def test_the_folder_of_the_fork_servers_socket_may_be_removed(service, ask):
    """Systems clean /tmp of old files."""
    dead = ask(body={"text": "a"})[1]["pid"]
    [listening] = [c.laddr for c in psutil.Process(dead).parent().net_connections("unix") if "pymp" in c.laddr]
    shutil.rmtree(Path(listening).parent)
    os.kill(dead, signal.SIGKILL)
    wait_for(lambda: service.both_ready() and not {dead, None} & pids(service))


def test_a_cell_that_hangs_is_ended_at_the_time_limit(service, ask):
    started = time.monotonic()
    status, answer, headers = ask(body={"text": "hang"})
    assert (status, headers["Retry-After"]) == (503, "1") and f"{LIMIT} s" in answer["error"]["message"]
    assert LIMIT - 0.5 < time.monotonic() - started < 15
    wait_for(lambda: ask(body={"text": "a"})[0] == 200)
    wait_for(lambda: any(f"within {LIMIT} s" in event["why"] for event in service.events("a kernel was lost")))


def test_an_exception_is_a_500_without_details_and_a_log_line_with_them(service, ask):
    status, answer, headers = ask(body={"text": "raise"})
    assert status == 500 and "secret" not in json.dumps(answer)
    event = wait_for(lambda: service.events("a cell failed"))[-1]
    assert event["request_id"] == headers["X-Request-Id"]
    assert "ValueError" in event["output"] and "secret" not in event["output"]  # which may quote the listener


def test_a_print_does_not_reach_the_client_or_the_log(service, ask):
    assert ask(body={"text": "print"})[1]["text"] == "print"
    event = wait_for(lambda: service.events("a cell printed more than its answer"))[-1]
    assert "characters" in event["output"] and not any("stray" in line for line in service.lines)


def test_an_answer_may_contain_other_line_breaks(ask):
    assert ask(body={"text": "a\u2028b\x85c"})[1]["text"] == "a\u2028b\x85c"


def test_a_cell_sets_headers(ask):
    assert ask("/ready")[2]["X-Started"] == "yes"


@pytest.mark.parametrize("text", ["brief", "fail together"])
def test_requests_that_wait_at_the_same_time_are_prepared_together(service, text):
    """An error in the cell that prepares them costs no request."""
    busy = threading.Thread(target=answers, args=(service, "slow", 2))
    busy.start()
    time.sleep(0.2)
    batches = [answer["batch"] for answer in answers(service, text)]
    busy.join()
    assert max(batches) >= 2


def test_health_answers_while_all_kernels_work(service, ask):
    busy = threading.Thread(target=answers, args=(service, "slow", 2))
    busy.start()
    started = time.monotonic()
    assert ask("/health")[0] == 200 and time.monotonic() - started < 0.3
    busy.join()


def test_the_log_is_json_without_the_text_of_requests(service, ask):
    ask(body={"text": "a listener's secret", "history": ["another listener's secret"]})
    request = wait_for(lambda: [event for event in service.events("request") if event["path"] == "/recommend"])[-1]
    assert list(request) == ["time", "level", "event", "request_id", "method", "path", "status", "ms"]
    assert request["level"] == "info" and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", request["time"])
    assert not any("listener's secret" in line for line in service.lines)


@pytest.mark.parametrize("method", ["PATCH", "PUT", "DELETE", "TRACE", "NONSENSE", "HEAD"])
def test_other_methods_are_405_with_the_allowed_ones(ask, method):
    status, _, headers = ask.raw("/recommend", method=method)
    assert status == 405 and headers["Allow"] == "POST, OPTIONS" and headers["X-Request-Id"]


def test_head_and_options(ask):
    assert ask.raw("/health", method="HEAD")[:2] == (200, b"")
    status, body, headers = ask.raw("/recommend", method="OPTIONS", headers={"Origin": "https://elsewhere.example"})
    assert (status, body, headers["Allow"]) == (204, b"", "POST, OPTIONS")
    assert not [name for name in headers if name.startswith("Access-Control")]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({"headers": {"Content-Encoding": "gzip"}, "body": b"\x1f\x8b"}, 415),
        ({"body": b" " * 5_000_000}, 413),
        ({"headers": {"Content-Length": "5, 6"}, "body": b"12345"}, 400),
        ({"headers": {"Content-Length": "9" * 5000}}, 413),
        ({"body": iter([b" " * 50_000] * 4)}, 413),  # in chunks, without a length
    ],
)
def test_a_body_is_refused_by_its_headers(ask, sent, status):
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the server need not read a refused body
        actual, body, _ = ask.raw("/recommend", method="POST", **sent)
        assert actual == status and json.loads(body)["error"]["code"]


@pytest.mark.parametrize("sent", [{"path": "/" + "x" * 70_000}, {"path": "/health", "headers": {"X": "y" * 250_000}}])
def test_large_headers_are_431(service, sent):
    status, body, headers = service.client.raw(method="GET", **sent)
    assert status == 431 and json.loads(body)["error"]["code"] == "request_header_fields_too_large"
    wait_for(lambda: any(event["request_id"] == headers["X-Request-Id"] for event in service.events("request")))


def test_a_query_string_that_is_not_utf8_is_400(ask):
    status, answer, _ = ask("/ready?x=%ff")
    assert status == 400 and "query string" in answer["error"]["message"]


def test_many_checks_do_not_occupy_the_kernels(service, ask):
    working = threading.Thread(target=answers, args=(service, "slow", 8))  # two seconds of work for two kernels
    working.start()
    started = time.monotonic()
    with ThreadPoolExecutor(100) as pool:
        checks = list(pool.map(lambda _: ask("/ready")[0], range(300)))
    working.join()
    assert set(checks) == {200} and time.monotonic() - started < 10
    assert ask(body={"text": "a"})[0] == 200


def test_half_sent_headers_do_not_stop_answers(notebook, tmp_path):
    def few_files():
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))

    with (
        gateway(tiny(tmp_path / "run"), notebook=notebook, preexec_fn=few_files) as running,
        contextlib.ExitStack() as stack,
    ):
        for _ in range(200):
            client = stack.enter_context(socket.create_connection(running.client.address.split(":")))
            with contextlib.suppress(OSError):  # the oldest make room for the newest
                client.sendall(b"GET /health HTTP/1.1\r\nHost:")
        assert [running.client(body={"text": "a"})[0] for _ in range(100)] == [200] * 100
        assert len(running.lines) < 150  # no line for each failure to accept


def sent(running, message, half=False):
    """Send bytes to a gateway. -> all that it sends until it closes the connection."""
    with socket.create_connection(running.client.address.split(":"), timeout=5) as client:
        client.sendall(message)
        if half:
            client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(65536), b""))


@pytest.mark.parametrize(
    "message", [b"\x16\x03\x01\x02\r\n\r\n", b"GET /health\r\n\r\n", b"GET / HTTP/1.1\r\nno\r\n\r\n"]
)
def test_what_is_not_http_is_a_400_in_the_form_of_errors(service, message):
    head, _, body = sent(service, message).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ") and json.loads(body)["error"]["code"] == "not_http"
    assert wait_for(lambda: [line for line in service.lines if "Malformed HTTP message from 127.0.0.1" in line])


def test_pages_of_other_sites_are_refused_where_there_is_no_token(ask):
    body = json.dumps({"text": "a"})
    for host, status in (("evil.example:80", 403), ("localhost:80", 200), ("[::1]:80", 200), ("10.0.0.7", 200)):
        assert ask.raw("/recommend", method="POST", body=body, headers={"Host": host})[0] == status, host


def test_a_path_does_not_split_a_line_of_the_log(service):
    sent(service, "GET /a\x85b HTTP/1.0\r\n\r\n".encode("latin-1"))
    [line] = wait_for(lambda: [line for line in service.lines if "/a" in line])
    assert len(line.splitlines()) == 1 and json.loads(line)["path"] == "/a\x85b"


def test_a_reader_of_the_log_that_stalls_stops_nothing(notebook, tmp_path):
    port = free_port()
    arguments = ["serve", "--run", str(tiny(tmp_path / "run")), "--port", str(port)]
    process = subprocess.Popen(
        [*command(notebook), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )  # fmt: skip
    ask = Client(port)
    wait_for(lambda: "Ready" in process.stdout.readline(), START)
    lines = 1000 + 65536 // 1000 + 50  # more than the queue and the pipe hold
    assert {ask("/" + "x" * 1000)[0] for _ in range(lines)} == {404}
    assert ask(body={"text": "a"})[0] == 200
    dropped = re.search(r"^recommend_log_lines_dropped_total (\S+)", ask("/metrics")[1], re.M)
    assert float(dropped[1]) > 0
    process.send_signal(signal.SIGTERM)
    assert process.wait(START) == 0
    process.stdout.close(), process.stderr.close()


def test_kernels_share_the_queue(service):
    counts = Counter(answer["pid"] for answer in answers(service, "slow", 6))
    assert sorted(counts.values()) == [3, 3]


def test_a_run_that_cannot_be_served_leaves_the_old_one(service, ask, current, first):
    second, broken = (tiny(first.parent / name, name) for name in ("second", "broken"))
    assert ask(body={"text": "a"})[1]["model"] == "first"
    point(current, broken)
    refused = "not switched: the old run is kept"
    wait_for(lambda: any("half a model" in event["why"] for event in service.events(refused)))
    assert models(service) == {"first"}
    point(current, first)
    time.sleep(0.7)  # the service looks twice a second
    (broken / "model" / "name").write_text("mended")
    point(current, broken)
    wait_for(lambda: models(service) == {"mended"})
    point(current, second)
    wait_for(lambda: models(service) == {"second"})
    os.kill(ask(body={"text": "a"})[1]["pid"], signal.SIGKILL)
    wait_for(service.both_ready)
    assert models(service) == {"second"}  # from the new kernel, too
    kernel = psutil.Process(ask(body={"text": "a"})[1]["pid"])
    wait_for(lambda: len(kernel.parent().children()) == 2)  # the kernels of the other runs have ended


def test_a_run_whose_answers_have_no_songs_is_not_switched_to(service, current, first):
    point(current, tiny(first.parent / "songless", "songless"))
    wait_for(
        lambda: any("without songs" in event["why"] for event in service.events("not switched: the old run is kept"))
    )
    assert models(service) == {"first"}


def test_promotions_in_quick_succession_are_all_followed(service, current, first):
    """Each comes right after the switch before it: the service never looks between two of them."""
    other, before = tiny(first.parent / "other", "other"), len(service.events("switched"))
    for n in range(10):
        point(current, (other, first)[n % 2])
        wait_for(lambda: len(service.events("switched")) > before + n)  # noqa: B023
        assert models(service) == {("other", "first")[n % 2]}


def test_a_run_that_is_overwritten_by_a_broken_one_is_served_from_memory(service, current, first):
    run = tiny(first.parent / "overwritten", "good")
    point(current, run)
    wait_for(lambda: models(service) == {"good"})
    kernels, refusals = pids(service), len(service.events("not switched: the old run is kept"))
    (run / "model" / "name").write_text("broken")
    (run / "index" / "index.json").write_text("{} ")
    wait_for(lambda: len(service.events("not switched: the old run is kept")) > refusals)
    assert models(service) == {"good"} and pids(service) <= kernels


def test_a_full_queue_is_429(single):
    busy = threading.Thread(target=answers, args=(single, "slow", 1))
    busy.start()
    time.sleep(0.25)  # now the kernel is busy: four of nine requests may wait, and one more if the kernel is done
    results = single.client.together(["brief"] * 9)
    busy.join()
    status = [result[0] for result in results]
    assert set(status) == {200, 429} and 4 <= status.count(200) <= 5
    refused = next(result for result in results if result[0] == 429)
    assert refused[1]["error"]["code"] == "too_many_requests" and refused[2]["Retry-After"] == "1"
    assert refused[3] < 0.4


def test_a_request_whose_client_has_gone_is_not_answered(single):
    headers = single.client.headers | {"Content-Type": "application/json"}
    for _ in range(8):
        with contextlib.closing(http.client.HTTPConnection(single.client.address)) as client:
            client.request("POST", "/recommend", json.dumps({"text": "slow"}), headers)
            time.sleep(0.05)
    started = time.monotonic()
    assert single.client(body={"text": "a"})[0] == 200 and time.monotonic() - started < 1.5  # eight would take 4 s
    wait_for(lambda: sum(event["status"] == 499 for event in single.events("request")) == 8, 5)


def test_a_token_is_required(single):
    body = json.dumps({"text": "a"}).encode()
    for sent in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "s3cret"}, {"Authorization": "Bearer "}):
        status, answer, headers = single.client.raw("/recommend", method="POST", body=body, headers=sent)
        assert status == 401 and json.loads(answer)["error"]["code"] == "unauthorized"
        assert headers["WWW-Authenticate"] == "Bearer"
    good = {"Authorization": f"Bearer {TOKEN}".encode()}
    assert single.client.raw("/recommend", method="POST", body=body, headers=good)[0] == 200
    for path, status in (("/health", 200), ("/ready", 200), ("/metrics", 401)):
        assert single.client.raw(path, method="GET")[0] == status


@pytest.mark.parametrize("kill", [os.kill, os.killpg], ids=["process", "group"])
def test_sigterm_lets_requests_finish(spare, kill):
    """`timeout` sends SIGTERM to all processes of the group, as a terminal does with SIGINT."""
    results = []
    asking = threading.Thread(target=lambda: results.extend(spare.client.together(["slow"] * 2)))
    asking.start()
    time.sleep(0.3)
    started = time.monotonic()
    kill(spare.process.pid, signal.SIGTERM)
    assert spare.process.wait(timeout=10) == 0 and time.monotonic() - started < 10
    asking.join()
    assert [result[0] for result in results] == [200, 200]


def test_sigterm_during_the_start(tmp_path):
    process = subprocess.Popen(
        [*command(), "serve", "--run", str(tiny(tmp_path / "run")), "--port", str(free_port())],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline().startswith("Loading")
    time.sleep(0.5)  # the kernels are not forked yet
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 0


def test_no_kernel_outlives_a_gateway_that_is_killed(spare):
    kernels = [psutil.Process(pid) for pid in pids(spare)]
    spare.process.kill()
    wait_for(lambda: not any(kernel.is_running() and kernel.status() != "zombie" for kernel in kernels))


def test_a_notebook_that_fails_at_the_start_ends_the_process(notebook, tmp_path):
    arguments = ["serve", "--run", str(tiny(tmp_path / "run", "broken")), "--port", str(free_port())]
    ran = subprocess.run([*command(notebook), *arguments], capture_output=True, text=True, timeout=START)
    assert ran.returncode == 1 and "Traceback" not in ran.stderr
    assert "could not be started on" in ran.stderr and "ValueError: half a model" in ran.stderr


def test_a_taken_port_is_reported(server, first, capsys):
    port = server.client.address.partition(":")[2]
    assert cli.main(["serve", "--run", str(first), "--port", port]) == 1
    assert "Address already in use" in (message := capsys.readouterr().err) and "make serve PORT=" in message


def test_a_port_out_of_range_is_reported(first, capsys):
    assert cli.main(["serve", "--run", str(first), "--port", "99999"]) == 2
    assert "--port" in (message := capsys.readouterr().err) and "65535" in message


def test_a_missing_run_is_reported(tmp_path, capsys):
    assert cli.main(["serve", "--run", str(tmp_path), "--port", str(free_port())]) == 1
    assert "has no model" in capsys.readouterr().err
    assert cli.main(["serve", "--run", str(tmp_path / "none"), "--port", str(free_port())]) == 1
    assert "Name a run" in capsys.readouterr().err


def test_without_a_token_only_this_machine_is_served(first, capsys, monkeypatch):
    monkeypatch.delenv("KG_AUTH_TOKEN", raising=False)
    assert cli.main(["serve", "--run", str(first), "--port", str(free_port()), "--ip", "0.0.0.0"]) == 1
    assert "KG_AUTH_TOKEN" in (message := capsys.readouterr().err) and "NO_TOKEN=1" in message
