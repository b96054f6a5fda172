"""Hints through real sockets and a bad network: each is applied once or not at all, and nothing depends on them."""

import asyncio
import random
import threading
import time
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import httpx
import pytest

from deploy.scale import api, registry
from deploy.scale.events import hints
from lib.core import files, paths
from tests.conftest import untuned

KEY, OTHER = b"k" * 32, b"o" * 32
HERE = "127.0.0.1"


def address(transport: asyncio.DatagramTransport) -> tuple[str, int]:
    return transport.get_extra_info("sockname")


@asynccontextmanager
async def receiver():
    """A real receiver. Yield its address and the values that it applies."""
    applied = []
    transport = await hints.receive((HERE, 0), KEY, lambda hint: applied.append(hint.value))
    yield address(transport), applied
    await asyncio.sleep(0.3)
    transport.close()


class Relay(asyncio.DatagramProtocol):
    """A bad network: it loses a share of the datagrams, delays each by up to 30 ms, and sends some twice.

    With each tenth it also sends a forgery: a changed byte, a part, or another key's signature.
    """

    def __init__(self, target: tuple[str, int], loss: float):
        self.target, self.loss, self.random = target, loss, random.Random(7)

    def connection_made(self, transport: asyncio.DatagramTransport):
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]):
        copies = [data] * (2 if self.random.random() < 0.25 else 1)
        if self.random.random() < self.loss:
            copies = []
        place = int(self.random.random() * len(data))
        if self.random.random() < 0.1:
            copies.append(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
            copies.append(data[:place])
            copies.append(data[: -hints.MAC] + hints._sign(OTHER, data[: -hints.MAC]))
        for copy in copies:
            delay = self.random.uniform(0, 0.03)
            asyncio.get_running_loop().call_later(delay, self.transport.sendto, copy, self.target)


async def through(loss: float, values: list[str]) -> list[str]:
    """Return the values that a receiver applies behind the bad network."""
    async with receiver() as (target, applied):
        own = hints.socket.socket(hints.socket.AF_INET, hints.socket.SOCK_DGRAM)
        own.setsockopt(hints.socket.SOL_SOCKET, hints.socket.SO_RCVBUF, hints.BUFFER)
        own.setblocking(False)
        own.bind((HERE, 0))
        relay, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: Relay(target, loss), sock=own)
        sender = hints.Sender([address(relay)], KEY)
        await asyncio.to_thread(sender.send, [("drop", value) for value in values])
    relay.close()
    return applied


@pytest.mark.parametrize(("loss", "least"), [(0.0, 1.0), (0.05, 0.999), (0.3, 0.97)])
def test_hints_arrive_once_through_a_bad_network(loss, least):
    """Of three copies, each lost with probability p, all are lost with p³: 1 in 8,000 at 5 %, 2.7 % at 30 %."""
    values = [f"{n:x}" for n in range(4000)]
    applied = asyncio.run(through(loss, values))
    print(f"{loss:.0%} lost: {len(applied)} of {len(values)} applied")
    assert len(set(applied)) == len(applied) and set(applied) <= set(values)  # none twice, none forged
    assert len(applied) >= least * len(values)


def test_a_receiver_that_is_busy_loses_nothing():
    """A worker reads nothing for a third of a second while it opens a version."""

    async def check() -> list[str]:
        async with receiver() as (target, applied):
            sender = hints.Sender([target], KEY)
            thread = threading.Thread(target=sender.send, args=([("drop", f"{n:x}") for n in range(400)],))
            thread.start()
            time.sleep(0.35)  # in the loop, on purpose
        thread.join()
        return applied

    assert sorted(asyncio.run(check())) == sorted(f"{n:x}" for n in range(400))


def datagrams() -> dict[str, bytes]:
    """Return what a receiver must refuse, by the fate that it counts."""
    good, forged = hints.Sender([], KEY), hints.Sender([], OTHER)
    data = good.pack("drop", "1")

    def signed(body: str) -> bytes:
        return body.encode() + hints._sign(KEY, body.encode())

    body = '{"source":"s","number":%s,"at":%s,"kind":"%s","value":"%s"}'
    now = time.time()
    return {
        "forged: key": forged.pack("drop", "2"),
        "forged: byte": data.replace(b'"1"', b'"3"'),
        "forged: cut": data[:-1],
        "forged: empty": b"",
        "wrong: only a signature": hints._sign(KEY, b""),
        "forged: 64 kB": signed(body % (1, now, "drop", "4" * 65_000)),
        "wrong: kind": signed(body % (1, now, "flush", "5")),
        "wrong: header": signed(body % (1, now, "drop", "6\\r\\nX-Served: 7")),
        "wrong: number": signed(body % (2**60, now, "drop", "8")),
        "wrong: time": signed(body % (1, "NaN", "drop", "9")),
        "wrong: no JSON": signed("drop"),
        "old: past": signed(body % (1, now - hints.AGE - 5, "drop", "a")),
        "old: future": signed(body % (1, now + hints.AGE + 5, "drop", "b")),
    }


@pytest.mark.parametrize("name", datagrams())
def test_a_false_datagram_is_refused(name):
    def count() -> float:
        return hints.HEARD.labels(name.partition(":")[0])._value.get()

    async def check() -> list[str]:
        async with receiver() as (target, applied):
            with hints.socket.socket(hints.socket.AF_INET, hints.socket.SOCK_DGRAM) as out:
                out.sendto(datagrams()[name], target)
            await asyncio.to_thread(hints.Sender([target], KEY).send, [("drop", "abc")])  # the next one is applied
        return applied

    before = count()
    assert asyncio.run(check()) == ["abc"] and count() == before + 1


def test_the_window_takes_each_number_once():
    """It agrees with a set, but takes no number that is older than the window."""
    numbers, window, seen, newest = random.Random(3), hints.Window(), set(), 0
    for n in range(1, 30_000):
        number = max(1, n + numbers.choice((0, 0, 0, -1, -5, -100, -4095, -4096, 9, 5000)))
        newest = max(newest, number)
        expected = number not in seen and newest - number < hints.WINDOW
        assert window.first(number) is expected, (number, newest)
        seen.add(number)


def test_a_recorded_datagram_is_never_applied_again():
    """Neither at once, nor after the window, nor when its source is forgotten."""
    applied = []
    receiver, sender, now = hints.Receiver(KEY, applied.append), hints.Sender([], KEY), time.time()
    recorded = sender.pack("drop", "1")
    assert [receiver._take(recorded, now) for _ in range(3)] == ["applied", "again", "again"]
    for _ in range(hints.WINDOW):
        receiver._take(sender.pack("drop", "2"), now)
    assert receiver._take(recorded, now) == "again"
    others = [hints.Sender([], KEY).pack("drop", "3") for _ in range(hints.SOURCES)]
    fates = [receiver._take(other, now) for other in others]
    assert fates == ["applied"] * (hints.SOURCES - 1) + ["crowded"]  # a source that is known may not be forgotten yet
    assert receiver._take(recorded, now) == "again" and len(receiver.windows) == hints.SOURCES
    later = now + hints.AGE + 2
    late = hints.Hint(source="late", number=1, at=later, kind="drop").model_dump_json().encode()
    assert receiver._take(late + hints._sign(KEY, late), later) == "applied" and len(receiver.windows) == 1
    assert receiver._take(recorded, later) == "old"


def test_a_sender_that_starts_again_is_heard():
    """Its numbers begin at 1 again, under another name."""
    applied = []
    receiver = hints.Receiver(KEY, applied.append)
    for _ in range(2):
        sender = hints.Sender([], KEY)
        assert [receiver._take(sender.pack("version", "7"), time.time()) for _ in range(2)] == ["applied"] * 2


def follow(monkeypatch, look: float, hinted: bool) -> float:
    """Return the seconds until a worker serves a new version."""
    monkeypatch.setattr(api, "LOOK", look)
    versions = iter(["1"])
    current = [registry.Version(next(versions), "model", "")]

    async def opened(self, version) -> api.Served:
        return api.Served(version, None, version.number)

    async def no_ban(self, prefix) -> None: ...

    monkeypatch.setattr(registry, "serving", lambda: current[0])
    monkeypatch.setattr(api.Tier, "_open", opened)
    monkeypatch.setattr(api.Tier, "_ban", no_ban)
    monkeypatch.setattr(api, "_freeze", lambda: None)

    async def check() -> float:
        tier = api.Tier()
        async with hints.listen(tier.look.set, tier.cache.local, api.EDGE):
            task = asyncio.create_task(tier.follow())
            await tier.first.wait()
            await asyncio.sleep(0.05)
            current[0], started = registry.Version("2", "other", ""), time.monotonic()
            if hinted:
                await asyncio.to_thread(hints.tell, "version", "2")
            while tier.served.version.number != "2":
                await asyncio.sleep(0.005)
            took = time.monotonic() - started
            task.cancel()
            return took

    return asyncio.run(asyncio.wait_for(check(), 20))


@pytest.fixture
def settings(monkeypatch, tmp_path) -> SimpleNamespace:
    """The environment of a sender and of a receiver."""
    with hints.socket.socket(hints.socket.AF_INET, hints.socket.SOCK_DGRAM) as probe:
        probe.bind((HERE, 0))
        target = f"{HERE}:{probe.getsockname()[1]}"
    hints.make_key(tmp_path / "key")
    for name, value in {"HINTS": target, "HINTS_LISTEN": target, "HINTS_KEY": str(tmp_path / "key")}.items():
        monkeypatch.setenv(name, value)
    return SimpleNamespace(target=target, key=tmp_path / "key")


def test_a_worker_looks_at_the_registry_at_once(monkeypatch, settings):
    assert follow(monkeypatch, look=15, hinted=True) < 1


@pytest.mark.parametrize("lost", ["all", "no receiver"])
def test_without_any_hint_a_worker_follows_the_registry_in_time(monkeypatch, settings, lost):
    if lost == "no receiver":
        monkeypatch.setenv("HINTS_LISTEN", "not an address")
    assert 0.5 < follow(monkeypatch, look=1, hinted=lost != "all") < 1.5


def test_a_dropped_answer_leaves_the_worker_and_its_varnish(settings):
    bans = []

    class Edge(BaseHTTPRequestHandler):
        def do_BAN(self):
            bans.append(dict(self.headers).get("X-Key"))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_): ...

    async def check(edge: str) -> None:
        answers = {"a:1": b"one", "a:2": b"two"}
        async with hints.listen(lambda: None, answers, edge):
            await asyncio.to_thread(hints.tell, "drop", "a:1")
            await asyncio.to_thread(hints.tell, "drop", "a:9")  # that it does not hold
            await asyncio.sleep(0.3)
        assert answers == {"a:2": b"two"}

    server = HTTPServer((HERE, 0), Edge)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    asyncio.run(check(f"http://{HERE}:{server.server_port}"))
    server.shutdown()
    server.server_close()
    assert bans == ["a:1", "a:9"]
    asyncio.run(check("http://127.0.0.1:9"))  # no Varnish


@pytest.mark.parametrize("setting", [{"HINTS_KEY": "nowhere"}, {"HINTS": "host:port"}, {"HINTS": "no.such.host:1"}])
def test_a_hint_that_cannot_be_sent_stops_nothing(monkeypatch, settings, setting, capsys):
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    hints.tell("version", "1")
    assert "no.such" in str(setting) or "no hint was sent" in capsys.readouterr().err


def test_a_key_is_made_once_and_only_its_owner_reads_it(settings):
    key = hints.read_key(settings.key)
    hints.make_key(settings.key)
    assert hints.read_key(settings.key) == key and settings.key.stat().st_mode & 0o777 == 0o600
    settings.key.write_bytes(b"short")
    with pytest.raises(ValueError, match="fewer than 16 bytes"):
        hints.read_key(settings.key)


def drop(up, body: str) -> int:
    from deploy.scale.tier import main

    return main(["--home", str(up.home), "drop", body])


def test_one_answer_is_dropped_from_all_caches(up, capsys):
    """From both workers, Redis and Varnish; the other answers stay."""
    one, other = f'{{"text": "drop  me {time.time()}"}}', f'{{"text": "keep me {time.time()}"}}'

    def source(body: str, port: int) -> str:
        headers = up.headers() | {"Content-Type": "application/json"}
        return up.http.post(f"http://{HERE}:{port}/recommend", content=body, headers=headers).headers["X-Found"]

    workers = (up.ports.api, up.ports.api + 1)
    for body in (one, other):
        assert [source(body, port) for port in (*workers, up.first, up.first)][-1] == "edge"
    assert drop(up, one.replace("  ", " ")) == 0  # spaces do not count
    time.sleep(0.5)
    assert source(one, up.first) == "made"
    assert [source(other, port) for port in (*workers, up.first)] == ["local", "local", "edge"]
    assert drop(up, '{"text": ""}') == 1 and "text" in capsys.readouterr().err


def test_workers_hear_of_a_promotion(up, small_run):
    """Each worker applies a hint of a promotion and of its rollback, and serves that version."""

    def heard() -> float:
        lines = httpx.get(f"http://{HERE}:{up.ports.api}/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith('hints_total{fate="applied"}'))

    second = untuned(small_run, paths.ROOT / "outputs" / "test" / "untuned")
    before = heard()
    for words, run in ((("promote", str(second)), second), (("rollback",), small_run)):
        started = time.monotonic()
        assert up.registry(*words).returncode == 0
        model = files.read_json(run / "index/index.json")["model"]
        while any(up.ask({"text": "x"}, up.ports.api + n).json()["model"] != model for n in range(2)):
            assert time.monotonic() - started < 30
            time.sleep(0.05)
        print(f"{words[0]}: {time.monotonic() - started:.2f} s")
    assert heard() == before + 4  # two hints, two workers
