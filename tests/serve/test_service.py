"""The real gateway with a real run over HTTP: the contract, another run without a gap, and notebook 09 as it is."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import papermill
import psutil
import pytest
from servers import START, Client, free_port, gateway, point, wait_for

from lib.core import base_models, encoder, paths
from lib.search import indexing, recommender
from lib.serve import contract


@pytest.fixture(scope="module")
def current(small_run, tmp_path_factory) -> Path:
    """The link that the service follows."""
    link = tmp_path_factory.mktemp("service") / "current"
    point(link, small_run)
    return link


@pytest.fixture(scope="module")
def stock(small_run, tmp_path_factory):
    """Stock Kernel Gateway with notebook 09. It starts while the other tests run."""
    notebook = tmp_path_factory.mktemp("stock") / "09_serve.ipynb"
    papermill.execute_notebook(
        str(paths.NOTEBOOKS / "09_serve.ipynb"), str(notebook), {"run_dir": str(small_run)}, prepare_only=True
    )
    port = free_port()
    options = {"api": "kernel_gateway.notebook_http", "seed_uri": notebook, "ip": "127.0.0.1", "port": port}
    arguments = (f"--KernelGatewayApp.{name}={value}" for name, value in options.items())
    process = subprocess.Popen([sys.executable, "-m", "kernel_gateway", *arguments], stderr=subprocess.DEVNULL)
    yield Client(port)
    process.terminate()
    process.wait(timeout=15)


@pytest.fixture(scope="module")
def service(current, stock):
    with gateway(current, cwd="/") as running:
        yield running
        assert running.process.poll() is None
    assert running.process.returncode == 0


@pytest.fixture(scope="module")
def ask(service) -> Client:
    return service.client


@pytest.fixture(scope="module")
def tracks(small_run) -> pd.DataFrame:
    return pd.read_parquet(small_run / "tracks.parquet").set_index("id")


def check_tracks(answer: dict, n: int) -> None:
    fields = ["id", "title", "artist", "mood", "genre", "year", "language", "score", "match"]
    assert [list(t) for t in answer["tracks"]] == [fields] * n
    scores = [t["score"] for t in answer["tracks"]]
    assert scores == sorted(scores, reverse=True) and all(0 <= s <= 1 for s in scores)
    assert isinstance(answer["understood"], dict) and len(answer["model"]) == 64


def test_a_request_gets_five_tracks(ask):
    status, answer, headers = ask(body={"text": "Uplifting EDM track with hype vocals and a build-up structure"})
    assert status == 200 and headers["Content-Type"] == "application/json"
    check_tracks(answer, 5)


def test_num_recommendations_is_the_number_of_tracks(ask):
    status, answer, _ = ask(body={"text": "Jazzy lo-fi beats for studying", "num_recommendations": 3})
    assert status == 200
    check_tracks(answer, 3)


def test_tracks_fit_the_request(ask, tracks):
    """Opposite requests get tracks of opposite energy."""
    energy = []
    for text in ("high-energy pumping workout music", "calm relaxing music to fall asleep"):
        ids = [track["id"] for track in ask(body={"text": text, "top_k": 10})[1]["tracks"]]
        energy.append(tracks.loc[ids, "energy"].mean())
    assert energy[0] > energy[1] + 0.2, energy


@pytest.mark.parametrize(
    "text", ["  trimmed  ", "悲しいピアノ", "أغنية هادئة", "🎵🔥", "'; print(1) #\n\"\\", "x" * 1000]
)
def test_any_text_is_answered(ask, text):
    status, answer, _ = ask(body={"text": text})
    assert status == 200
    check_tracks(answer, 5)


def test_a_charset_is_allowed(ask):
    assert ask(body={"text": "sad piano", "top_k": 1}, kind="application/json; charset=utf-8")[0] == 200


def test_mood_liked_and_disliked(ask):
    _, answer, _ = ask(body={"text": "music", "mood": "calm"})
    assert {t["mood"] for t in answer["tracks"]} == {"calm"}
    first, second = (t["id"] for t in answer["tracks"][:2])
    status, moved, _ = ask(body={"text": "music", "mood": "calm", "liked": [first], "disliked": [second]})
    assert status == 200 and not {first, second} & {t["id"] for t in moved["tracks"]}


def test_the_history_counts(ask):
    """A conversation goes on: the new text alone means something else."""
    alone, after = (ask(body={"text": "but slower", "history": turns})[1] for turns in ([], ["dance music", "no rock"]))
    assert alone["understood"] == {"tempo": ["slow"]}
    assert after["understood"] == {"tempo": ["slow"], "genre": ["dance"], "not": {"genre": ["rock"]}}
    assert alone["tracks"] != after["tracks"]


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({}, "missing_field", "text"),
        ({"text": "   "}, "invalid_value", "text"),
        ({"text": "x" * 1001}, "invalid_value", "text"),
        ({"text": 3}, "invalid_value", "text"),
        ({"text": "\ud800"}, "not_json", None),
        ({"text": "a", "top_k": 0}, "invalid_value", "top_k"),
        ({"text": "a", "top_k": 11}, "invalid_value", "top_k"),
        ({"text": "a", "top_k": "3"}, "invalid_value", "top_k"),
        ({"text": "a", "top_k": 3.0}, "invalid_value", "top_k"),
        ({"text": "a", "top_k": True}, "invalid_value", "top_k"),
        ({"text": "a", "top_k": 3, "num_recommendations": 4}, "invalid_value", "top_k"),
        ({"text": "a", "mood": "polka"}, "unknown_mood", "mood"),
        ({"text": "a", "liked": ["nobody"]}, "unknown_track", "liked"),
        ({"text": "a", "liked": ["nobody"] * 5900}, "invalid_value", "liked"),
        ({"text": "a", "topk": 3}, "unknown_field", "topk"),
        ({"text": "a", "history": "b"}, "invalid_value", "history"),
        ({"text": "a", "history": None}, "invalid_value", "history"),
        ({"text": "a", "history": [3]}, "invalid_value", "history"),
        ({"text": "a", "history": [" "]}, "invalid_value", "history"),
        ({"text": "a", "history": ["b" * 1001]}, "invalid_value", "history"),
        ({"text": "a", "history": ["b"] * 21}, "invalid_value", "history"),
        ({"text": "a", "diversity": 1.1}, "invalid_value", "diversity"),
        (b'{"text": "a", "diversity": NaN}', "invalid_value", "diversity"),
        ({"text": "a", "diversity": True}, "invalid_value", "diversity"),
        ({"text": "a", "explain": 1}, "invalid_value", "explain"),
        (["a"], "not_an_object", None),
        (b"{not json", "not_json", None),
        (b"", "not_json", None),
        (b"[" * 10_000 + b"]" * 10_000, "not_json", None),
        (b'{"text": "\xff"}', "not_json", None),
    ],
)
def test_a_bad_request_is_400_with_a_reason(ask, body, code, field):
    status, answer, headers = ask(body=body)
    assert (status, headers["Content-Type"]) == (400, "application/json")
    assert list(answer) == ["error"] and list(answer["error"]) == ["code", "message", "field"]
    assert (answer["error"]["code"], answer["error"]["field"]) == (code, field), answer


def test_an_answer_may_have_no_tracks(ask, tracks):
    """All tracks of the mood are liked already; with and without reasons."""
    calm = list(tracks.index[tracks["mood"] == "calm"])
    for explain in (False, True):
        status, answer, _ = ask(body={"text": "music", "mood": "calm", "liked": calm, "explain": explain})
        assert status == 200 and answer["tracks"] == []


def test_reasons_and_diversity(ask):
    _, answer, _ = ask(body={"text": "sad piano", "explain": True, "diversity": 0, "top_k": 2})
    assert [list(track["why"]) for track in answer["tracks"]] == [["matched", "words", "moods"]] * 2


def test_both_counts_may_agree(ask):
    assert len(ask(body={"text": "a", "top_k": 2, "num_recommendations": 2})[1]["tracks"]) == 2


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        ({"path": "/nothing"}, 404, "not_found"),
        ({"path": "/recommend"}, 405, "method_not_allowed"),
        ({"body": b"text=a", "kind": "application/x-www-form-urlencoded"}, 415, "unsupported_media_type"),
        ({"body": {"text": "a" * 70_000}}, 413, "too_large"),
    ],
)
def test_other_errors_are_json_too(ask, sent, status, code):
    actual, answer, headers = ask(**sent)
    assert actual == status and answer["error"]["code"] == code and headers["Content-Type"] == "application/json"


def test_a_405_names_the_allowed_methods(ask):
    assert ask("/recommend")[2]["Allow"] == "POST, OPTIONS"


def test_health_ready_metrics_and_openapi(ask):
    assert ask("/health")[1] == {"status": "alive"}
    _, ready, _ = ask("/ready")
    assert ready["status"] == "ready" and ready["tracks"] == 400 and len(ready["model"]) == len(ready["index"]) == 64
    assert "recommend_requests_total{" in ask("/metrics")[1]
    _, document, _ = ask("/openapi.json")
    assert document["openapi"] == "3.1.0" and document["security"] == []
    properties = document["components"]["schemas"]["RecommendRequest"]["properties"]
    assert set(properties) == set(contract.RecommendRequest.model_fields)
    assert "calm" in properties["mood"]["anyOf"][0]["enum"]


def test_the_service_does_what_openapi_json_says(service, small_run, tmp_path):
    """Schemathesis finds no difference. `make bench` sends 5,000 requests and more."""
    hooks = {"SCHEMATHESIS_HOOKS": str(Path(__file__).with_name("schema_hooks.py"))}
    environment = os.environ | hooks | {"TRACKS": str(small_run / "tracks.parquet")}
    command = [Path(sys.executable).with_name("schemathesis"), "run", f"{service.client.url}/openapi.json"]
    options = ["--checks", "all", "--max-examples", "100", "--seed", "1", "--no-color"]
    ran = subprocess.run([*command, *options], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout[-3000:]
    assert int(re.search(r"(\d+) generated, \1 passed", ran.stdout)[1]) > 300


def test_neither_the_gateway_nor_a_kernel_of_an_onnx_form_loads_pytorch(service):
    kernel = kernels(service)[0]
    loaded = [
        any("libtorch" in area.path for area in psutil.Process(pid).memory_maps())
        for pid in (service.process.pid, kernel.pid)
    ]
    assert loaded == [False, False]


def test_kernels_are_forked_from_a_process_of_one_thread(service):
    """A lock that another thread holds would stay locked in the kernel. Arrow's jemalloc handles its own."""
    tasks = Path(f"/proc/{kernels(service)[0].ppid()}/task").iterdir()
    names = [(task / "comm").read_text().strip() for task in tasks]
    assert len(names) - names.count("jemalloc_bg_thd") == 1, names


def kernels(service) -> list[psutil.Process]:
    """Return the kernels' processes: the fork server's children."""
    return [kernel for child in psutil.Process(service.process.pid).children() for kernel in child.children()]


def test_another_model_without_a_gap(service, ask, current, small_run, tracks, tmp_path):
    """Two real runs, promoted and rolled back under load: no request fails, no answer mixes them."""
    other = tmp_path / "other"
    other.mkdir()
    encoder.load(base_models.find("all-MiniLM-L6-v2")).save(str(other / "model"))
    indexing.build_index(other, tracks.reset_index().head(100))
    text, expected = "sad piano", {}
    for run in (small_run, other):
        songs = recommender.open_run(run)
        expected[songs.fingerprints["model"]] = list(songs.recommend(text)["id"])
    first, second = expected
    answers, stop = [], threading.Event()

    def load():
        while not stop.is_set():
            status, body, _ = ask(body={"text": text})
            answers.append((status, body.get("model"), [track["id"] for track in body.get("tracks", [])]))
            time.sleep(0.02)  # without a pause three clients leave a new kernel no processor to start on

    with ThreadPoolExecutor(3) as clients:
        loads = [clients.submit(load) for _ in range(3)]
        try:
            for run, model in ((other, second), (small_run, first)):
                point(current, run)
                wait_for(lambda model=model: len(answers) > 20 and all(a[1] == model for a in answers[-20:]), START)
        finally:
            stop.set()
    assert [client.exception() for client in loads] == [None] * 3
    assert {status for status, *_ in answers} == {200}
    assert all(ids == expected[model] for _, model, ids in answers)
    assert {model for _, model, _ in answers} == {first, second}
    wait_for(lambda: len(service.events("switched")) == 2)  # logged after the last kernel has switched


def test_a_damaged_run_is_not_served(service, ask, current, small_run, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(small_run, damaged)
    (damaged / "index" / "vectors.npy").write_bytes(b"half")
    point(current, damaged)
    event = wait_for(lambda: service.events("not switched: the old run is kept"))[0]
    point(current, small_run)
    assert "is damaged" in event["why"] and ask(body={"text": "a"})[0] == 200


def test_stock_kernel_gateway_serves_the_notebook_too(stock):
    answer = wait_for(lambda: stock_answer(stock), START)
    check_tracks(answer, 3)


def stock_answer(stock: Client) -> dict | None:
    with contextlib.suppress(OSError):  # it is still starting
        return stock(body={"text": "Jazzy lo-fi beats for studying", "num_recommendations": 3})[1]
