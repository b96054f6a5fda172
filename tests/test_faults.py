"""The gateway when things go wrong: kernels that die and hang, full queues, tokens, stopping, another run.

Real kernels behind the real gateway. Most tests serve a notebook of a few lines, which starts in a second.
"""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import nbformat
import psutil
import pytest
from test_service import Service, free_port

from lib.core import errors, files, runs
from lib.search import indexing, recommender

CELLS = [
    ("parameters", 'run_dir = ""'),
    (
        "",
        "import json, os, sys, time, pathlib\nfound = pathlib.Path(run_dir, 'model', 'name').read_text()",
    ),
    ("", "if found == 'broken': raise ValueError('half a model')\nmodel = found"),
    (
        "",
        """# POST /recommend
text = json.loads(json.loads(REQUEST)["body"])["text"]
if text == "die": os._exit(1)
if text == "hang": time.sleep(60)
if text == "raise": raise ValueError("a secret")
if text == "print": print("stray"); sys.stderr.write("stray")
if text == "slow": time.sleep(0.5)
print(json.dumps({"text": text, "model": model, "pid": os.getpid()}, ensure_ascii=False))
if text == "print": print("stray")""",
    ),
    ("", '# GET /ready\nprint(json.dumps({"model": model}))'),
]
META = {"kernelspec": {"name": "python3", "display_name": "Python"}, "language_info": {"name": "python"}}


def tiny(folder, name="first"):
    """A folder that the tiny notebook takes for a run."""
    for part in ("model", "index"):
        (folder / part).mkdir(parents=True)
    (folder / "model" / "name").write_text(name)
    (folder / "index" / "index.json").write_text("{}")
    return folder


@contextlib.contextmanager
def gateway(folder, *options, notebook=None, token="", **how):
    """The gateway on a folder, stopped in the end; its process, and what asks it."""
    port = free_port()
    code = "import sys, pathlib, lib.serve.gateway as g\n"
    if notebook:
        code += f"g.NOTEBOOK = pathlib.Path({str(notebook)!r})\n"
        few = ["lib.serve.session", "ipykernel.kernelapp", "lib.serve.cells"]
        code += f"import lib.serve.kernels as k; k.FORKS.set_forkserver_preload({few})\n"
    code += "sys.exit(g.main(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "--run", str(folder), "--port", str(port), *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "KG_AUTH_TOKEN": token}, **how,
    )  # fmt: skip
    process.errors = []
    reader = threading.Thread(target=lambda: process.errors.extend(process.stderr), daemon=True)
    reader.start()
    try:
        for line in process.stdout:
            if line.startswith("Ready"):
                break
        assert process.poll() is None, process.errors
        yield process, Service(port)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=15)
        reader.join(5)


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    cells = [nbformat.v4.new_code_cell(s, metadata={"tags": [tag] if tag else []}) for tag, s in CELLS]
    made = nbformat.v4.new_notebook(cells=cells, metadata=META)
    path = tmp_path_factory.mktemp("notebook") / "tiny.ipynb"
    nbformat.write(made, path)
    return path


@pytest.fixture(scope="module")
def served(notebook, tmp_path_factory):
    with gateway(tiny(tmp_path_factory.mktemp("run")), "--time-limit", "2", notebook=notebook) as (process, ask):
        yield process, ask


def wait_for(condition, seconds=30):
    ends = time.monotonic() + seconds
    while not (got := condition()):
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.1)
    return got


def in_parallel(ask, texts):
    """Ask all at the same time. -> (status, body, headers, seconds) of each."""
    answers = [None] * len(texts)

    def one(i):
        started = time.monotonic()
        answers[i] = (*ask(body={"text": texts[i]}), time.monotonic() - started)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(len(texts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def both_ready(ask):
    return ask("/ready")[1].get("kernels_ready") == 2


def test_a_kernel_that_dies_in_a_request_costs_that_request_alone(served):
    _, ask = served
    wait_for(lambda: both_ready(ask))
    started = time.monotonic()
    status, answer, headers = ask(body={"text": "die"})
    assert (status, answer["error"]["code"], headers["Retry-After"]) == (503, "unavailable", "1")
    assert time.monotonic() - started < 2
    assert ask(body={"text": "a"})[0] == 200  # by the other one
    wait_for(lambda: both_ready(ask))
    assert "recommend_kernels_replaced_total" in ask("/metrics")[1]


def test_a_kernel_that_dies_while_idle_is_replaced_and_seeded(served):
    _, ask = served
    wait_for(lambda: both_ready(ask))
    dead = ask(body={"text": "a"})[1]["pid"]
    os.kill(dead, signal.SIGKILL)
    time.sleep(0.3)
    for _ in range(20):
        status, answer, _ = ask(body={"text": "a"})
        assert status == 200 and answer["pid"] != dead
    wait_for(lambda: both_ready(ask))
    assert {a[1]["pid"] for a in in_parallel(ask, ["slow"] * 4)}.isdisjoint({dead})


def test_the_process_that_kernels_are_forked_from_may_die(served):
    process, ask = served
    wait_for(lambda: both_ready(ask))
    dead = {a[1]["pid"] for a in in_parallel(ask, ["slow"] * 4)}
    forker = psutil.Process(next(iter(dead))).parent()
    assert forker.ppid() == process.pid
    forker.kill()
    fresh = lambda: {a[1].get("pid") for a in in_parallel(ask, ["slow"] * 4)}  # noqa: E731
    wait_for(lambda: both_ready(ask) and not (dead | {None}) & fresh())  # None: of an error


def test_a_handler_that_hangs_is_ended_at_the_time_limit(served):
    process, ask = served
    wait_for(lambda: both_ready(ask))
    started = time.monotonic()
    status, answer, headers = ask(body={"text": "hang"})
    assert (status, headers["Retry-After"]) == (503, "1") and "2 s" in answer["error"]["message"]
    assert 1.5 < time.monotonic() - started < 4
    assert ask(body={"text": "a"})[0] == 200
    wait_for(lambda: any("a kernel was lost" in line for line in process.errors))
    wait_for(lambda: both_ready(ask))


def test_an_exception_is_a_500_that_says_nothing_and_a_log_that_does(served):
    process, ask = served
    status, answer, headers = ask(body={"text": "raise"})
    assert status == 500 and "secret" not in json.dumps(answer)
    lines = wait_for(lambda: [json.loads(x) for x in process.errors if "a cell failed" in x])
    assert lines[-1]["request_id"] == headers["X-Request-Id"]
    assert "ValueError" in lines[-1]["said"] and "secret" not in lines[-1]["said"]  # it may quote the listener


def test_a_print_does_not_reach_the_client(served):
    assert served[1](body={"text": "print"})[1]["text"] == "print"


def test_an_answer_may_hold_ends_of_lines(served):
    assert served[1](body={"text": "a\u2028b\x85c"})[1]["text"] == "a\u2028b\x85c"


def test_health_answers_while_all_kernels_are_at_work(served):
    _, ask = served
    busy = threading.Thread(target=in_parallel, args=(ask, ["slow"] * 4))
    busy.start()
    started = time.monotonic()
    assert ask("/health")[0] == 200 and time.monotonic() - started < 0.3
    busy.join()


def test_logs_are_json_and_hold_no_request_text(served):
    process, ask = served
    ask(body={"text": "a listener's secret"})
    wait_for(lambda: any('"path": "/recommend"' in line for line in process.errors))
    told = [json.loads(line) for line in process.errors if line.startswith("{")]
    assert all({"time", "level", "event"} <= set(line) for line in told)
    assert not any("listener's secret" in line for line in process.errors)


@pytest.mark.parametrize("method", ["PATCH", "PUT", "DELETE", "TRACE", "NONSENSE", "HEAD"])
def test_other_methods_are_405_and_say_which_there_are(served, method):
    _, ask = served
    status, _, headers = ask.raw("/recommend", method=method)
    assert status == 405 and headers["Allow"] == "POST, OPTIONS" and headers["X-Request-Id"]


def test_head_and_options(served):
    _, ask = served
    assert ask.raw("/health", method="HEAD")[:2] == (200, b"")
    status, body, headers = ask.raw("/recommend", method="OPTIONS", headers={"Origin": "https://elsewhere.example"})
    assert (status, body, headers["Allow"]) == (204, b"", "POST, OPTIONS")
    assert not [name for name in headers if name.startswith("Access-Control")]


@pytest.mark.parametrize(
    ("how", "status"),
    [
        ({"headers": {"Content-Encoding": "gzip"}, "body": b"\x1f\x8b"}, 415),
        ({"body": b" " * 5_000_000}, 413),
        ({"headers": {"Content-Length": "5, 6"}, "body": b"12345"}, 400),
        ({"body": iter([b" " * 50_000] * 4)}, 413),  # in chunks, its length unsaid
    ],
)
def test_bodies_that_are_refused_by_their_headers(served, how, status):
    _, ask = served
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it need not read what it refuses
        got, body, _ = ask.raw("/recommend", method="POST", **how)
        assert got == status and json.loads(body)["error"]["code"]


def test_a_full_queue_is_429(notebook, tmp_path):
    options = ("--kernels", "1", "--queue", "2", "--batch", "1")
    with gateway(tiny(tmp_path / "run"), *options, notebook=notebook) as (_, ask):
        busy = threading.Thread(target=in_parallel, args=(ask, ["slow"]))
        busy.start()
        time.sleep(0.25)  # the kernel has taken it; of seven that come now two may wait, and one more if it is done
        answers = in_parallel(ask, ["slow"] * 7)
        busy.join()
        status = [a[0] for a in answers]
        assert set(status) == {200, 429} and 2 <= status.count(200) <= 3
        refused = next(a for a in answers if a[0] == 429)
        assert refused[1]["error"]["code"] == "too_many_requests" and refused[2]["Retry-After"] == "1"
        assert refused[3] < 0.4


def test_what_nobody_waits_for_any_more_is_not_answered(notebook, tmp_path):
    with gateway(tiny(tmp_path / "run"), "--kernels", "1", "--queue", "8", notebook=notebook) as (process, ask):
        body = json.dumps({"text": "slow"})
        for _ in range(8):
            with contextlib.closing(http.client.HTTPConnection(ask.url.removeprefix("http://"))) as client:
                client.request("POST", "/recommend", body, {"Content-Type": "application/json"})
                time.sleep(0.05)
        started = time.monotonic()
        assert ask(body={"text": "a"})[0] == 200 and time.monotonic() - started < 1.5  # not eight times half a second
        assert sum('"status": 499' in line for line in process.errors) == 8


def test_kernels_share_what_waits(notebook, tmp_path):
    with gateway(tiny(tmp_path / "run"), notebook=notebook) as (_, ask):
        answers = in_parallel(ask, ["slow"] * 6)
        assert sorted(Counter(a[1]["pid"] for a in answers).values()) == [3, 3]


def test_who_may_ask(notebook, tmp_path):
    with gateway(tiny(tmp_path / "run"), notebook=notebook, token="s3crét") as (_, ask):
        body = json.dumps({"text": "a"}).encode()
        for sent in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "s3cret"}, {"Authorization": "Bearer "}):
            status, answer, headers = ask.raw("/recommend", method="POST", body=body, headers=sent)
            assert status == 401 and json.loads(answer)["error"]["code"] == "unauthorized"
            assert headers["WWW-Authenticate"] == "Bearer"
        good = {"Authorization": "Bearer s3crét".encode()}
        assert ask.raw("/recommend", method="POST", body=body, headers=good)[0] == 200
        assert ask("/health")[0] == ask("/ready")[0] == 200
        assert ask("/metrics")[0] == 401


def test_without_a_token_only_this_machine_is_served(python, notebook, tmp_path):
    run = tiny(tmp_path / "run")
    command = [python, "-m", "lib.serve.gateway", "--run", str(run), "--port", str(free_port()), "--ip", "0.0.0.0"]
    refused = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "KG_AUTH_TOKEN": ""})
    assert refused.returncode == 1 and "KG_AUTH_TOKEN" in refused.stderr and "NO_TOKEN=1" in refused.stderr


def test_sigterm_lets_requests_finish(notebook, tmp_path):
    with gateway(tiny(tmp_path / "run"), notebook=notebook) as (process, ask):
        got = []
        asking = threading.Thread(target=lambda: got.extend(in_parallel(ask, ["slow"] * 2)))
        asking.start()
        time.sleep(0.3)
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0 and time.monotonic() - started < 10
        asking.join()
        assert [a[0] for a in got] == [200, 200]


def test_sigterm_while_it_starts(notebook, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "lib.serve.gateway", "--run", str(tiny(tmp_path / "run")), "--port", str(free_port())],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline().startswith("Loading")
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 0


def test_no_kernel_outlives_a_gateway_that_is_killed(notebook, tmp_path):
    with gateway(tiny(tmp_path / "run"), notebook=notebook) as (process, ask):
        kernels = [psutil.Process(a[1]["pid"]) for a in in_parallel(ask, ["slow"] * 4)]
        process.kill()
        wait_for(lambda: not any(kernel.is_running() and kernel.status() != "zombie" for kernel in kernels))


def test_what_is_sent_to_the_group_is_for_the_gateway(notebook, tmp_path):
    """`timeout` sends SIGTERM to all processes of the group, a terminal SIGINT: requests are finished all the same."""
    with gateway(tiny(tmp_path / "run"), notebook=notebook, start_new_session=True) as (process, ask):
        got = []
        asking = threading.Thread(target=lambda: got.extend(in_parallel(ask, ["slow"] * 2)))
        asking.start()
        time.sleep(0.3)
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(timeout=10) == 0
        asking.join()
        assert [a[0] for a in got] == [200, 200]


def test_kernels_are_forked_from_a_process_of_one_thread():
    """A lock that another thread holds would stay locked in the kernel. Arrow's jemalloc sees to its own."""
    code = "import os, pathlib, lib.serve.kernels as k; [__import__(name) for name in k.PRELOADED]\n"
    code += "print(*[(t / 'comm').read_text().strip() for t in pathlib.Path('/proc/self/task').iterdir()])"
    alone = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | alone)
    threads = sorted(ran.stdout.split())
    assert threads and len(threads) - threads.count("jemalloc_bg_thd") == 1, ran


def point(link, run):
    temporary = link.with_suffix(".new")
    temporary.symlink_to(run)
    temporary.replace(link)


def test_a_run_that_cannot_be_served_leaves_the_old_one(notebook, tmp_path):
    first, second, broken = (tiny(tmp_path / n, n) for n in ("first", "second", "broken"))
    link = tmp_path / "current"
    point(link, first)
    with gateway(link, notebook=notebook) as (process, ask):
        assert ask(body={"text": "a"})[1]["model"] == "first"
        point(link, broken)
        wait_for(lambda: any("not switched" in line for line in process.errors))
        assert any("half a model" in line for line in process.errors)
        assert {a[1]["model"] for a in in_parallel(ask, ["slow"] * 4)} == {"first"}
        point(link, first)
        time.sleep(1)
        (broken / "model" / "name").write_text("mended")
        point(link, broken)
        wait_for(lambda: {a[1]["model"] for a in in_parallel(ask, ["slow"] * 4)} == {"mended"})
        point(link, second)
        wait_for(lambda: {a[1]["model"] for a in in_parallel(ask, ["slow"] * 4)} == {"second"})
        os.kill(ask(body={"text": "a"})[1]["pid"], signal.SIGKILL)
        wait_for(lambda: both_ready(ask))
        assert {a[1]["model"] for a in in_parallel(ask, ["slow"] * 4)} == {"second"}  # the fresh one too


def test_a_run_that_is_spoilt_where_it_lies_is_served_as_it_was(notebook, tmp_path):
    run = tiny(tmp_path / "run")
    with gateway(run, notebook=notebook) as (process, ask):
        kernels = {a[1]["pid"] for a in in_parallel(ask, ["slow"] * 4)}
        (run / "model" / "name").write_text("broken")
        (run / "index" / "index.json").write_text("{} ")
        wait_for(lambda: any("not switched" in line for line in process.errors))
        answers = [a[1] for a in in_parallel(ask, ["slow"] * 4)]
        assert {a["model"] for a in answers} == {"first"} and {a["pid"] for a in answers} == kernels


def test_a_new_model_without_a_gap(small_run, tmp_path):
    """Two real runs, promoted and rolled back under load: none failed, none of one's model and the other's index."""
    import pandas as pd

    from lib.core import base_models, encoder

    other, link = tmp_path / "other", tmp_path / "current"
    other.mkdir()
    model = encoder.load(base_models.find("all-MiniLM-L6-v2"))
    model.save(str(other / "model"))
    indexing.build_index(other, pd.read_parquet(small_run / "tracks.parquet"))
    text, expected = "sad piano", {}
    for run in (small_run, other):
        songs = recommender.open_run(run)
        expected[songs.fingerprints["model"]] = list(songs.recommend(text)["id"])
    first, second = expected
    point(link, small_run)
    with gateway(link) as (process, ask):
        answers, stop = [], threading.Event()

        def load():
            while not stop.is_set():
                status, body, _ = ask(body={"text": text})
                answers.append((time.monotonic(), status, body.get("model"), [t["id"] for t in body.get("tracks", [])]))

        clients = [threading.Thread(target=load) for _ in range(3)]
        for client in clients:
            client.start()
        seconds = []
        for run, wanted in ((other, second), (small_run, first)):
            started = time.monotonic()
            point(link, run)
            wait_for(lambda w=wanted: len(answers) > 20 and all(a[2] == w for a in answers[-20:]))
            seconds.append(time.monotonic() - started)
        stop.set()
        for client in clients:
            client.join()
        # Said once the old kernels are gone, which may be a little after the new ones answer.
        wait_for(lambda: sum("switched" in x and '"switching"' not in x for x in process.errors) == 2)
    assert {status for _, status, *_ in answers} == {200}
    assert all(ids == expected[model] for *_, model, ids in answers)
    assert {a[2] for a in answers} == {first, second} and max(seconds) < 10, seconds


def test_promote_and_rollback(small_run, tmp_path, monkeypatch, capsys):
    from lib.serve import promotion

    monkeypatch.setattr(promotion, "ROOT", tmp_path)
    monkeypatch.setattr(promotion, "check", lambda run: (runs.need(run, "model", "index"), "0" * 64)[1])
    first, second, none = tiny(tmp_path / "a"), tiny(tmp_path / "b"), tmp_path / "none"
    none.mkdir()
    assert promotion.main(["rollback"]) == 1 and "nothing to go back to" in capsys.readouterr().err
    current = tmp_path / "outputs/current"
    for run in (first, second):
        assert promotion.main(["promote", str(run)]) == 0
        assert current.resolve() == run
    assert promotion.main(["promote", str(none)]) == 1 and "has no model" in capsys.readouterr().err
    for back in (first, second):
        assert promotion.main(["rollback"]) == 0
        assert current.resolve() == back
    files.point(tmp_path / "outputs/previous", second)
    assert promotion.main(["rollback"]) == 1 and "is served already" in capsys.readouterr().err


def test_a_run_is_checked_before_it_is_promoted(small_run, tmp_path):
    import shutil

    from lib.serve import promotion

    assert len(promotion.check(small_run)) == 64
    broken = tmp_path / "broken"
    shutil.copytree(small_run, broken)
    vectors = broken / "index" / "vectors.npy"
    whole = vectors.read_bytes()
    vectors.write_bytes(whole[:-4] + b"\0\0\0\0")
    with pytest.raises(errors.WorkbookError, match=r"is damaged: vectors\.npy of index/ changed"):
        promotion.check(broken)
    vectors.write_bytes(b"half")
    with pytest.raises(errors.WorkbookError, match="is damaged"):
        promotion.check(broken)
