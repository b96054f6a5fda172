"""The log of events: its files, and processes that are killed while they write."""

import asyncio
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime

from deploy.scale.events.journal import Journal, read
from deploy.scale.events.schema import Record
from lib.core.paths import ROOT

KILLED = """
import asyncio, sys
from pathlib import Path
from deploy.scale.events.journal import Journal
from deploy.scale.events.schema import Record

async def client(journal, name):
    for n in range(10**9):
        ids = [f"{name}-{n}-{i}" for i in range(20)]
        await journal.append([Record(id=id, kind="played", track="t", at="2026-11-30T10:00:00Z") for id in ids])
        print(*ids, flush=True)

async def main():
    journal = Journal(Path(sys.argv[1]))
    await asyncio.gather(*(client(journal, f"{sys.argv[2]}-{n}") for n in range(8)))

asyncio.run(main())
"""


def test_a_killed_process_has_kept_all_that_it_acknowledged(tmp_path):
    acknowledged = []
    for n in range(3):
        command = [sys.executable, "-c", KILLED, tmp_path, str(n)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for _ in range(50 * (n + 1)):
            acknowledged += process.stdout.readline().split()
        process.kill()
        acknowledged += [id for line in process.stdout if line.endswith("\n") for id in line.split()]
        process.wait()
        with max(tmp_path.glob("*.jsonl")).open("ab") as file:
            file.write(b'{"id": "half')
    files = [*tmp_path.glob("*.jsonl")]
    assert len(files) == 3 and len(acknowledged) >= 6000
    kept = Counter(record["id"] for record in read(tmp_path))
    assert set(acknowledged) <= set(kept) and set(kept.values()) == {1}


def append(log: Journal, *records: Record) -> None:
    with closing(asyncio.new_event_loop()) as loop:  # asyncio.run would leave the other tests without a loop
        loop.run_until_complete(log.append(records))


def record(id: str = "a") -> Record:
    return Record(id=id, kind="played", track="t", at=datetime.now(UTC))


def test_files_end_by_size_and_by_age_whatever_the_clock_says(tmp_path, monkeypatch):
    log = Journal(tmp_path, size=1000, age=0.5)
    for n in range(20):
        monkeypatch.setattr(time, "time", lambda n=n: (-1) ** n * 1e9)  # the clock jumps
        monkeypatch.setattr(time, "time_ns", lambda n=n: (-1) ** n * 10**18)
        append(log, record(f"{n}"))
    files = len([*tmp_path.glob("*.jsonl")])
    assert files > 1 and max(file.stat().st_size for file in tmp_path.glob("*.jsonl")) < 1500
    time.sleep(1)
    assert log.file is None  # an idle process holds no old file
    append(log, record("last"))
    log.close()
    assert len([*tmp_path.glob("*.jsonl")]) == files + 1
    assert [record["id"] for record in read(tmp_path)] == [*map(str, range(20)), "last"]


def test_a_deleted_file_takes_no_more_events(tmp_path):
    log = Journal(tmp_path / "new")
    append(log, record("a"))
    log.path.unlink()
    log.folder.rmdir()
    append(log, record("b"))
    log.close()
    assert [record["id"] for record in read(log.folder)] == ["b"]
