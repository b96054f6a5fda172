"""The capacity plan: sums that one can do by hand, and the simulation beside queueing theory."""

import json

import numpy as np
import pytest

from deploy.scale.capacity import calibration, events, pictures, plan, scenarios, simulation
from deploy.scale.capacity.simulation import Event, Service, Site, Traffic, simulate
from lib.core import errors, paths

DEMAND = plan.Demand(20_000_000, 10, 2.16, 0.2, 100_000, 1.0)
SUPPLY = plan.Supply("onnx", 3, 2, 0.6, 60, 1.0, 50, 0.045, 0.005, 0.8)
FREE = {"edge": 0, "before": 0, "after": 0, "batch": 0, "text": 0, "wait": 0, "path": 0, "spread": 0}
FILE = paths.ROOT / "benchmarks/tier.json"
EVENTS = FILE.with_name("events.json")
HABITS = events.Habits(5, 0.4, 0.3, 0.02, 5, 10_000_000)
STORE = events.Store(1, 3, 3, 90, 4, 25, 200, 0.08, 0.023, 0.005)
FIGURES = {
    "shipper": 10_000,
    "broker": 5000,
    "lake": 4000,
    "features": 20_000,
    "series": 1000,
    "sample": 4,
    "session": 500,
}
MEASURED = {"figures": {name: {"value": value, "basis": "trial"} for name, value in FIGURES.items()}}


@pytest.fixture
def tier() -> dict:
    return json.loads(FILE.read_text())


def test_twenty_million_listeners():
    """Ten requests a day each are 2,315 requests a second; one request a day is 231."""
    assert DEMAND.mean == pytest.approx(2315, abs=1)
    assert DEMAND._replace(requests_per_day=1).mean == pytest.approx(231, abs=1)
    assert DEMAND.peak == pytest.approx(5000, abs=1)


def test_a_cache_answers_repeated_requests_within_its_time_to_live():
    one = np.array([1.0])
    assert plan.hits(1, one, 9) == pytest.approx(0.9)  # one miss, nine hits
    assert plan.hits(1, one, 0) == 0
    many = plan.shares(10_000, 1.0)
    assert many.sum() == pytest.approx(1) and many[0] / many[9] == pytest.approx(10)
    assert plan.hits(10, many, 60) < plan.hits(100, many, 60) < plan.hits(1000, many, 60) < 1


def test_the_layers_answer_all_requests_and_the_encoder_all_personal_ones():
    layers = plan.layers(1000, DEMAND, SUPPLY)
    assert sum(layers.values()) == pytest.approx(1) and min(layers.values()) > 0
    assert plan.layers(1000, DEMAND._replace(personal=1.0), SUPPLY) == {"edge": 0, "workers": 0, "encoder": 1}


def test_the_plan_is_the_sum_of_the_costs_of_requests(tier):
    """Without caches and with one region, cores are the rate times the processor time of a request."""
    demand = DEMAND._replace(personal=1.0, users=1000 * plan.DAY, requests_per_day=1, peak_factor=1)
    supply = SUPPLY._replace(regions=1, utilisation=1.0, search_ms=tier["search"])
    table = plan.plan(tier, demand, supply)
    for part in plan.PARTS:  # milliseconds a request, at 1,000 requests a second
        assert table.loc[part, "cores"] == pytest.approx(plan.load_at(tier, 1.0)["cpu"][part])
    hourly = 0.045 * table["processes"].sum() + 0.005 * table["gib"].sum()
    assert table["dollars"].sum() == pytest.approx(720 * hourly, rel=1e-6)


def test_larger_inputs_raise_or_lower_the_cost_as_expected(tier):
    def dollars(demand=DEMAND, supply=SUPPLY):
        return plan.plan(tier, demand, supply)["dollars"].sum()

    assert dollars(DEMAND._replace(users=40_000_000)) > dollars() > dollars(supply=SUPPLY._replace(encoder="static"))
    assert dollars(DEMAND._replace(personal=0.4)) > dollars() > dollars(supply=SUPPLY._replace(ttl=600))
    table = plan.sensitivity(tier, DEMAND, SUPPLY)
    assert (table["planned"] == dollars()).all() and table.loc["users", "doubled"] > dollars()
    assert table.loc["users", "doubled"] == dollars(DEMAND._replace(users=40_000_000))
    by_encoder = plan.by_encoder(tier, DEMAND, SUPPLY)
    assert by_encoder.index[0] != "mpnet" and by_encoder.loc["GPU", "gpus"] >= 3


def test_a_tier_without_work_takes_no_time():
    table = simulate(Site(Service(**FREE), 1, 1), 100, 5)
    assert len(table) == pytest.approx(500, rel=0.2) and table["ms"].max() < 1e-6 and not table["failed"].any()


def test_one_worker_queues_as_theory_says():
    """M/D/1 (Pollaczek 1930): the mean wait is rho / 2 (1 - rho) services."""
    table = simulate(Site(Service(**FREE | {"before": 7.0}), 1, 1), 100, 300)
    assert table["ms"].mean() == pytest.approx(7 * (1 + 0.7 / (2 * 0.3)), rel=0.07)
    assert table.attrs["workers"] == pytest.approx(0.7, rel=0.05)


def test_a_slower_encoder_slows_a_worker_that_encodes_itself():
    site = Site(Service(**FREE | {"after": 3.0}, own=4.0), 1, 1)
    table = simulate(site, 1, 30, events=(Event(0, "slow", {"slowdown": 5}),))
    assert table["ms"].min() == pytest.approx(3 + 5 * 4)


def test_processes_share_a_core_as_theory_says():
    """M/G/1 with processor sharing (Kleinrock 1967): the mean time is 1 / (1 - rho) services."""
    table = simulate(Site(Service(**FREE | {"before": 7.0}), 1000, 1, cores=1), 100, 300)
    assert table["ms"].mean() == pytest.approx(7 / (1 - 0.7), rel=0.1)


def test_the_cost_of_a_request_falls_with_the_load():
    """A request costs 10 ms, and 5 ms more if it comes to an idle one of two cores."""

    def cost(rate: float) -> float:
        """Return the solution of cost = 10 + 5 (1 - rate cost / 2000)."""
        return 15 / (1 + 5 * rate / 2000)

    loads = [{"rate": rate, "cpu": {"api": cost(rate)}} for rate in (10, 80)]
    assert cost(20) == pytest.approx(10 + 5 * (1 - 20 * cost(20) / 2000))
    assert calibration.cpu_at(loads, 20)["api"] == pytest.approx(cost(20))


def test_the_simulation_has_the_limits_of_the_tier():
    api, tier, triton = (
        (paths.ROOT / "deploy/scale" / file).read_text() for file in ("api.py", "tier.py", "triton.py")
    )
    assert f"DEADLINE = {simulation.DEADLINE} " in api
    assert f'("WAITING", "{simulation.WAITING}")' in api and f'("WAITING", "{simulation.WAITING}")' in tier
    assert f'("MOST", "{simulation.MOST}")' in triton


def test_an_encoder_batches_waiting_texts():
    site = Site(Service(**FREE | {"batch": 20.0, "text": 1.0}), 4, 1)
    few, many = (simulate(site, rate, 30)["batch"].mean() for rate in (5, 300))
    assert few < 1.5 and many > 6


def test_a_simulated_cache_has_the_hit_rate_of_the_formula():
    table = simulate(Site(Service(**FREE), 1, 1, ttl=60), 300, 60, Traffic(10_000))
    assert (table["source"] == "edge").mean() == pytest.approx(plan.hits(300, plan.shares(10_000, 1.0), 60), abs=0.02)


def test_events_change_latencies_hit_rates_and_failures():
    site = Site(Service(**FREE | {"text": 5.0}), 1, 1, ttl=60)
    slow, flush = Event(10, "slow", {"slowdown": 30.0}), Event(20, "flushed", {"expiry": {}})
    table = scenarios.timeline(simulate(site, 20, 30, Traffic(50), (slow, flush)))
    assert table.loc[20:22, "p99"].max() > 100 * table.loc[2:9, "p99"].max() and table.loc[20:22, "encoder"].max() > 0.5
    assert flush.changes == {"expiry": {}}  # a second simulation starts with the same event
    broken = simulate(site, 50, 20, events=(slow,))
    assert not broken.loc[broken["at"] < 9, "failed"].any() and broken.loc[broken["at"] > 15, "failed"].mean() > 0.9


def test_one_region_has_no_other_region_to_lose():
    assert [event.changes for event in scenarios.bad_days(5000, 3, 4)["A region is lost"]] == [{"rate": 2500}]
    assert "A region is lost" not in scenarios.bad_days(5000, 1, 4)


def test_an_overloaded_worker_refuses_requests_and_answers_the_others_in_time():
    """At twice the encoder's capacity, half of the requests are answered, well within the deadline."""
    table = simulate(Site(Service(**FREE | {"text": 10.0}), 1, 1), 200, 30)
    late = table[table["at"] > 5]
    assert late["failed"].mean() == pytest.approx(0.5, abs=0.05)
    assert simulation.percentiles(late)["p99"] < 1000 and table.attrs["encoders"] == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"users": 0, "personal": 1.5},
            "users is 0, but must be at least 1; personal is 1.5, but must be between 0 and 1",
        ),
        ({"users": "many", "regions": 2.5}, "users is 'many', but must be a number; regions is 2.5, .* a whole number"),
        ({"users": 100}, "too few to simulate"),
        ({"target": 1}, "target is 1, but must be between 0 and 0.999999999"),
        ({"seconds": True}, "seconds is True, but must be a number"),
        ({"encoder": "bert"}, "encoder is 'bert', but must be one of torch, "),
        ({"users": 10**12}, "too many to simulate"),
    ],
)
def test_wrong_parameters_are_named(tier, wrong, message):
    def check(**changes) -> None:
        demand, supply = (
            values._replace(**{name: changes.pop(name) for name in values._fields if name in changes})
            for values in (DEMAND, SUPPLY)
        )
        plan.check(tier, demand, supply, **{"workers": 0, "tritons": 0, "target": 0.9999, "seconds": 10} | changes)

    check()
    with pytest.raises(errors.WorkbookError, match=message):
        check(**wrong)


@pytest.mark.parametrize("name", ["missing.json", "README.md", "../params/quick.yaml"])
def test_a_file_without_measurements_is_refused(name, tmp_path):
    assert plan.read(FILE)["machine"]
    with pytest.raises(errors.WorkbookError, match="make scale-bench"):
        plan.read(FILE.parent / name)
    (tmp_path / "part.json").write_text('{"machine": "one"}')
    with pytest.raises(errors.WorkbookError, match="lacks measurements"):
        plan.read(tmp_path / "part.json")


@pytest.mark.slow
def test_a_calibration_predicts_a_load_that_was_held_out(tier):
    """The simulation makes the loads from secret values; the fit sees all but the middle load."""
    secret = calibration.service_of(tier, path=8.0, spread=0.7)
    loads = [load | {"rate": rate} for load, rate in zip(tier["loads"], (20.0, 40.0, 60.0), strict=False)]
    fitted = [loads[0], loads[2]]
    simulated = calibration.check(tier | {"loads": loads}, secret, fitted, 4000)
    for load, (_, row) in zip(loads, simulated.iterrows(), strict=True):
        load |= {name: row[f"{name} simulated"] for name in ("p50", "p99")}
    service = calibration.calibrate(tier, fitted, 1000)
    held_out = calibration.check(tier | {"loads": [loads[1]]}, service, fitted, 4000).iloc[0]
    for name in ("p50", "p99"):
        assert held_out[f"{name} simulated"] == pytest.approx(held_out[name], rel=0.15)


def test_the_budget_counts_failed_requests(tier):
    restarts = {"api": {"requests": 1000, "failed": 2, "load": 10}}
    incidents = {"all fail for a minute": scenarios.Incident(seconds=60, share=1.0, per_month=1)}
    table = scenarios.budget(tier | {"restarts": restarts}, 0.9999, 86_400, incidents)
    assert table.loc["all fail for a minute", "failed"] == 60
    assert table.loc["all fail for a minute", "share"] == pytest.approx(60 / (1e-4 * 30 * 86_400))
    # Two requests fail at 100 a second: a hundredth of that at one a second, thirty times a month.
    assert table.loc["every api replaced, daily", "failed"] == pytest.approx(30 * 2 / 100)


def test_twenty_million_listeners_cause_forty_thousand_events_a_second():
    """Five shown tracks and 3.6 other events follow each of 5,000 answers a second."""
    assert HABITS.kinds == pytest.approx({"shown": 5, "played": 2, "skipped": 1.5, "liked": 0.05, "disliked": 0.05})
    rates = events.rates(DEMAND, HABITS)
    assert rates["broker"] == rates["shipper"] == pytest.approx(5000 * 8.6, rel=1e-3)
    assert rates["lake"] == pytest.approx(rates["broker"] / 2.16) and rates["features"] == pytest.approx(5000 * 3.55)


def test_the_bytes_of_an_event_are_those_of_real_records():
    sample = [*events.records(HABITS, 400)]
    counts = {kind: sum(event.kind == kind for event in sample) / 400 for kind in HABITS.kinds}
    assert counts == pytest.approx(HABITS.kinds, rel=0.15, abs=0.03)
    assert len({event.id for event in sample}) == len(sample)
    size = events.measure(HABITS, 400)
    assert size == events.measure(HABITS, 400)
    # The ids alone, of 36 letters and 16 random bytes each: id, request and session in a line, 16 bytes an id in a row.
    assert 200 < size.line < 600 and 16 < size.row < size.line / 4
    only_shown = HABITS._replace(played=0, skipped=0, rated=0)
    assert events.measure(only_shown, 400).line > size.line  # `shown` has score, parts and model


def test_tracks_that_are_reached_are_those_of_the_exact_sum():
    share = plan.shares(50_000, 1.0)
    for count in (1, 1000, 1e6):
        assert events.reached(count, 50_000) == pytest.approx(-np.expm1(-count * share).sum(), rel=1e-3)
    assert events.reached(1e12, 50_000) == pytest.approx(50_000)
    assert events.reached(5, 1) == pytest.approx(1 - np.exp(-5))


def test_the_memory_of_features_is_the_sum_of_its_parts():
    """One track that is always played: a series a kind, and a sample a minute of each; and four hours of sessions."""
    habits = HABITS._replace(catalogue=1)
    gib = events.redis_gib(MEASURED["figures"], DEMAND, habits, STORE)
    sessions = 200e6 / 5 * 4 / 24
    assert gib * 2**30 == pytest.approx(3 * 1000 + 3 * 1440 * 4 + sessions * 500, rel=1e-6)
    assert events.redis_gib(MEASURED["figures"], DEMAND, HABITS, STORE) > 10 * gib  # ten million tracks


def test_the_plan_of_events_is_one_that_one_can_do_by_hand():
    supply, size = SUPPLY._replace(regions=1, utilisation=0.5), events.Bytes(line=400, row=40)
    table = events.plan(MEASURED, DEMAND, HABITS, supply, STORE, size)
    peak, day = 43_000, 43_000 / 2.16 * 86_400
    rows = table["processes"]
    assert rows["shipper"] == np.ceil(peak / 5000) and rows["broker"] == np.ceil(3 * peak / 2500)
    assert rows["lake"] == np.ceil(peak / 2.16 / 2000)
    assert table.loc["shipper", "gb_a_day"] == pytest.approx(400 * day / 1e9, rel=1e-3)
    assert table.loc["broker", "gib"] == pytest.approx(3 * 3 * 400 * day / 2**30, rel=1e-3)
    assert table.loc["lake", "gib"] == pytest.approx(90 * 40 * day / 2**30, rel=1e-3)
    kept = table.loc["lake", "gib"] * 0.023 + 720 * 200 / 1000 * 0.005
    assert table.loc["lake", "dollars"] == pytest.approx(rows["lake"] * 0.045 * 720 + kept)
    door = {"figures": MEASURED["figures"] | {"door": {"value": 3700, "basis": "measured"}}}
    assert events.plan(door, DEMAND, HABITS, supply, STORE, size).loc["door", "processes"] == 10
    lost = events.plan(MEASURED, DEMAND, HABITS, supply._replace(regions=3), STORE, size)
    assert lost.loc["broker", "processes"] == 3 * np.ceil(3 * peak / 2 / 2500)


def test_the_first_bottleneck_carries_its_own_listeners_and_no_more():
    table = events.bottlenecks(MEASURED, DEMAND, HABITS, SUPPLY, STORE)
    assert table.index[0] == "one broker partition" and table["listeners"].is_monotonic_increasing
    at_limit = DEMAND._replace(users=table["listeners"].iloc[0])
    assert events.rates(at_limit, HABITS)["broker"] == pytest.approx(0.6 * 5000)
    memory = DEMAND._replace(users=table.loc["one Redis: memory", "listeners"])
    assert events.redis_gib(MEASURED["figures"], memory, HABITS, STORE) == pytest.approx(25, rel=0.01)
    title = pictures.bottlenecks(table, DEMAND.users).axes[0].get_title("left")
    assert title == "Events break one broker partition first:\nit carries 1.4 M listeners"
    silent = HABITS._replace(played=0, skipped=0, rated=0)
    assert (
        events.bottlenecks(MEASURED, DEMAND, silent, SUPPLY, STORE).loc["one Redis: commands", "listeners"]
        == events.MOST
    )


def test_every_figure_of_the_events_says_where_it_is_from():
    measured = events.read(EVENTS)
    assert {figure["basis"] for figure in measured["figures"].values()} <= {"measured", "trial", "assumed"}
    assert all(figure["value"] > 0 for figure in measured["figures"].values()) and measured["machine"]


@pytest.mark.parametrize("text", ["", "[]", '{"figures": 1}', '{"figures": {"broker": {"value": 1}}}'])
def test_a_file_without_figures_of_events_is_refused(tmp_path, text):
    (tmp_path / "events.json").write_text(text)
    with pytest.raises(errors.WorkbookError, match=r"events\.json (cannot be read|lacks)"):
        events.read(tmp_path / "events.json")


def test_wrong_parameters_of_events_are_named():
    events.check(HABITS, STORE)
    with pytest.raises(errors.WorkbookError, match=r"played is 2, .* between 0 and 1; copies is 2.5, .* whole number"):
        events.check(HABITS._replace(played=2), STORE._replace(copies=2.5))
