"""From the log to the lake: the real engines on free ports, without the rest of the tier."""

import json
import os
import subprocess
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from deploy.scale import client
from deploy.scale.events import forget, lines, settings
from deploy.scale.events.parts import Load, Parts, line
from deploy.scale.events.schema import Record
from deploy.scale.events.store import Damaged, Store, hour, open_store
from deploy.scale.events.tidy import Tidy
from lib.core.paths import ROOT

PATH = f"{os.environ['PATH']}:/usr/sbin"
NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """The parts, started once, with a job that writes every second."""
    if lack := settings.missing(PATH):
        pytest.skip(f"engines are missing: {lack}")
    parts = Parts(tmp_path_factory.mktemp("lake"), LAKE_EVERY="1")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("S3", "LAKE", "EVENTS", "FEATURES", "TANSU", *filter(lambda n: n.startswith("AWS_"), parts.env)):
            patch.setenv(name, parts.env[name])
        parts.start("objects", "broker", "shipper", "features", "lake")
        yield parts
        parts.stop()
        open_store.cache_clear()


@pytest.fixture
def store(parts) -> Store:
    """The lake."""
    return open_store(parts.env["LAKE"])


def events(store: Store, folder: str = "") -> pa.Table:
    """Return all events of a folder of the lake, with their hours."""
    tables = []
    for info in store.parquet(folder or store.events):
        try:
            table = store.table(info.path)
        except Damaged:
            continue
        place = "/".join(info.path.split("/")[2:-1])
        tables.append(table.append_column("place", pa.array([place] * len(table), pa.string())))
    return pa.concat_tables(tables) if tables else pa.table({"id": [], "place": []})


def arrive(store: Store, ids: list[str], seconds: float = 90) -> dict[str, str]:
    """Wait until events are in the lake; fail if one is there twice. Return the hour of each."""
    deadline = time.monotonic() + seconds
    while lost := set(ids) - set((table := events(store))["id"].to_pylist()):
        assert time.monotonic() < deadline, f"{len(lost)} of {len(ids)} are not in the lake, such as {min(lost)}"
        time.sleep(1)
    counts = Counter(table["id"].to_pylist())
    twice = [name for name, n in counts.items() if n > 1]
    assert not twice, f"{len(twice)} events are in the lake twice, such as {twice[:3]}"
    return dict(zip(table["id"].to_pylist(), table["place"].to_pylist(), strict=True))


def put(parts: Parts, name: str, *lines: bytes) -> Path:
    """Write a file of the log."""
    path = parts.log / f"{name}.jsonl"
    path.write_bytes(b"".join(lines))
    return path


def totals(parts: Parts) -> Counter:
    """Return the sums of the job's counts."""
    counts = Counter()
    for text in (parts.home / "lake.log").read_text().splitlines():
        if text.startswith('{"at"'):
            batch = json.loads(text)
            counts.update(batch.pop("rejected"))
            counts.update({name: n for name, n in batch.items() if name in ("written", "doubled", "forgotten")})
    return counts


def test_a_broker_elsewhere_takes_the_place_of_tansu(monkeypatch, tmp_path):
    monkeypatch.setenv("BROKERS", "kafka-1:9092,kafka-2:9092")
    assert "broker" not in settings.engines() and "objects" in settings.engines()
    own = settings.settings(tmp_path, client.ports(8080))
    assert (own["BROKERS"], own["TANSU"], own["S3"]) == ("kafka-1:9092,kafka-2:9092", "", "http://127.0.0.1:8088")
    settings.write_shipper(tmp_path, client.ports(8080))
    assert 'bootstrap-servers("kafka-1:9092,kafka-2:9092")' in (tmp_path / "syslog-ng.conf").read_text()


def test_missing_engines_are_named():
    assert settings.missing("/nowhere").startswith("apt-get install syslog-ng-core syslog-ng-mod-rdkafka openjdk-17")


def test_bad_lines_are_kept_apart_and_stop_nothing(parts, store):
    """Each is in `rejected` with its reason; an event of an old hour gets into its hour."""
    old, year, future = (NOW - timedelta(hours=3), NOW - timedelta(days=365), NOW + timedelta(hours=1))
    good = json.loads(line("a-1"))
    put(
        parts,
        "bad",
        line("a-1", parts={"words": 0.25, "meaning": 0.5}, position=1, score=0.75),
        line("a-1"),
        b"{broken\n",
        b"\xff\xfe\x00\n",
        json.dumps(good | {"id": "a-2", "kind": "hummed"}).encode() + b"\n",
        json.dumps(good | {"id": "control \u0001"}).encode() + b"\n",
        b"x" * 10_000_000 + b"\n",
        b"   \n",
        line("a-old", at=old.isoformat()),
        line("a-late", at=year.isoformat()),
        line("a-future", at=future.isoformat()),
        line("a-zone", at="2099-01-01T00:00:00"),
        line("a-last"),
        line("a-half")[:60],
    )
    places = arrive(store, ["a-1", "a-old", "a-last"])
    assert set(places) == {"a-1", "a-old", "a-last"} and places["a-old"] == hour(old)
    (row,) = [row for row in events(store).to_pylist() if row["id"] == "a-1"]
    assert dict(row["parts"]) == {"words": 0.25, "meaning": 0.5} and (row["position"], row["score"]) == (1, 0.75)
    rejected = events(store, store.path("rejected"))
    reasons = Counter(rejected["reason"].to_pylist())
    pieces = -(-10_000_000 // 131_072)  # the shipper's largest line
    assert reasons == {"broken": 2 + pieces, "invalid": 3, "late": 1, "future": 1}
    assert sum(len(text) for text in rejected["line"].to_pylist()) > 10_000_000
    assert totals(parts) == {"written": 3, "doubled": 1, "forgotten": 0, **reasons}


def test_every_event_arrives_once_though_each_part_is_killed(parts, store):
    """Under load, with a new log file every three seconds. The killed part is away for two seconds."""
    load = Load(parts.log, 1000, 32)
    load.start()
    for part in ("shipper", "broker", "objects", "lake", "shipper"):
        time.sleep(3)
        parts.kill(part)
        time.sleep(2)
        parts.start(part)
    load.join()
    assert len(list(parts.log.glob(f"*{load.name}*"))) > 9
    places = arrive(store, load.ids)
    assert sum(name.startswith(load.name) for name in places) == len(load.ids) > 30_000


def test_a_damaged_file_stops_neither_the_job_nor_a_reader(parts, store):
    store.write(f"{store.events}/{hour(datetime.now(UTC))}/damaged.parquet", b"PAR1 no PAR1")
    put(parts, "after", line("after"))
    arrive(store, ["after"])


def test_a_session_is_forgotten_everywhere(parts, store, capsys):
    """No byte of it is left in log, lake and features, and it does not come back from the topic."""
    redis, session = Redis.from_url(parts.env["FEATURES"], retry=Retry(ConstantBackoff(0.2), 50)), "someone-who-left*"
    assert "timeseries" in str(redis.module_list()).lower()
    redis.set(f"session:{session}", "a like")
    redis.set("session:another", "a like")
    broken = b'{"session":"%b", broken\n' % session.encode()
    log = put(parts, "left", line("f-1", session=session), line("f-2"), broken, line("f-3", session=session))
    arrive(store, ["f-1", "f-2", "f-3"])
    size = log.stat().st_size
    forget.main(session)
    assert "forgotten: 3 lines of the log, 3 rows of the lake, 1 keys" in capsys.readouterr().out
    assert log.stat().st_size == size
    with log.open("ab") as file:
        file.write(line("f-4"))  # the log goes on
    arrive(store, ["f-2", "f-4"])
    while redis.info("persistence")["aof_rewrite_in_progress"]:
        time.sleep(0.1)
    places = [parts.log, parts.home / "features", parts.home / "objects" / "lake", parts.home / "shipper"]
    files = [file for place in places for file in place.rglob("*") if file.is_file() and ".so" not in file.name]
    assert len(files) > 20 and not [file for file in files if session.encode() in file.read_bytes()]
    assert redis.exists("session:another") and not {"f-1", "f-3"} & set(events(store)["id"].to_pylist())


def test_a_session_that_comes_back_after_it_was_forgotten_is_kept(tmp_path):
    """The job forgets once more, within two hours, what a half-written batch may have brought back."""
    store = open_store(str(tmp_path / "events"))
    for name, ago in (("old", 60), ("new", -60)):
        at = datetime.now(UTC) - timedelta(seconds=ago)
        record = Record(id=name, kind="played", track="t", session="s", at=at, received=at)
        store.write_table(f"{store.events}/{hour(at)}/{name}.parquet", lines.table([record]))
    forget.mark(store, "s")
    Tidy(store).again()
    assert events(store)["id"].to_pylist() == ["new"]


def test_an_hourly_run_without_a_memory_writes_nothing_twice(parts, store):
    """Its checkpoint is new, so it reads the whole topic again; the log's files are sent again, too."""
    parts.kill("lake")
    parts.kill("shipper")
    put(parts, "again", *(path.read_bytes() for path in parts.log.glob("*.jsonl") if "bad" not in path.name))
    put(parts, "new", line("n-1"))
    parts.start("shipper")
    before = set(events(store)["id"].to_pylist())
    time.sleep(5)  # of the shipper; the run ends with what the topic has at its start
    env = parts.env | {"CHECKPOINT": str(parts.home / "new")}
    command = [settings.PYTHON, "-m", f"{settings.NAME}.lake", "--once"]
    run = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert set(arrive(store, ["n-1"])) == before | {"n-1"}


def test_old_days_log_files_and_messages_are_removed(parts, store, monkeypatch):
    day = f"dt={NOW - timedelta(days=91):%Y-%m-%d}"
    old = [f"{store.events}/{day}/hour=03/a.parquet", store.path("rejected", day, "a.parquet")]
    for path in old:
        store.write_table(path, pa.table({"id": ["x"]}))
    tidy = Tidy(store)
    assert tidy.days() == old and not [info for path in old for info in store.parquet(os.path.dirname(path))]  # noqa: PTH120
    parts.kill("shipper")
    shipped, waiting = parts.log / "new.jsonl", put(parts, "waiting", line("never-shipped"))
    recent = set(parts.log.glob("*.jsonl")) - {shipped, waiting}
    for path in (shipped, waiting):
        os.utime(path, (time.time() - 90_000, time.time() - 90_000))
    assert tidy.logs() == [shipped] and recent | {waiting} == set(parts.log.glob("*.jsonl"))
    monkeypatch.setenv("TOPIC_HOURS", "0")
    records = parts.home / "objects/tansu/clusters/tansu_cluster/topics/events/partitions/0000000000/records"
    first = sorted(records.iterdir())
    removed = tidy.topic({0: int(first[5].name.split(".")[0])})
    assert removed == 5 and sorted(records.iterdir()) == first[5:]


def test_stopping_leaves_no_process(parts):
    parts.start("lake")
    time.sleep(12)
    parts.stop()
    deadline = time.monotonic() + 10
    while left := [each for each in psutil.process_iter() if belongs(each, parts)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


def belongs(process: psutil.Process, parts: Parts) -> bool:
    """Return True if a process was started by the parts."""
    try:
        return process.pid != os.getpid() and process.environ().get("CHECKPOINT") == parts.env["CHECKPOINT"]
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return False
