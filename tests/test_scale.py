"""What many listeners take: sums that can be done by hand, and a simulation beside what theory says."""

import json

import numpy as np
import pytest

from deploy.scale.capacity import plan, simulation
from deploy.scale.capacity.simulation import Service, Site
from lib.core import errors, paths

DEMAND = plan.Demand(20_000_000, 10, 2.16, 0.2, 100_000, 1.0)
SUPPLY = plan.Supply("onnx", 3, 2, 0.6, 60, 1.0, 50, 0.045, 0.005, 0.8)
NOBODY = {"door": 0, "before": 0, "after": 0, "batch": 0, "text": 0, "wait": 0, "path": 0, "spread": 0}


@pytest.fixture
def measured() -> dict:
    return json.loads((paths.ROOT / "benchmarks/tier.json").read_text())


def test_twenty_million_listeners():
    """The seed's 2,315 a second are ten requests a day, and not one."""
    assert DEMAND.mean == pytest.approx(2315, abs=1)
    assert DEMAND._replace(per_day=1).mean == pytest.approx(231, abs=1)
    assert DEMAND.peak == pytest.approx(5000, abs=1)


def test_a_cache_has_what_came_within_its_time():
    one = np.array([1.0])
    assert plan.hits(1, one, 9) == pytest.approx(0.9)  # made once, found nine times
    assert plan.hits(1, one, 0) == 0
    many = plan.shares(10_000, 1.0)
    assert many.sum() == pytest.approx(1) and many[0] / many[9] == pytest.approx(10)
    assert plan.hits(10, many, 60) < plan.hits(100, many, 60) < plan.hits(1000, many, 60) < 1


def test_the_layers_are_all_requests_and_personal_ones_are_made():
    found = plan.layers(1000, DEMAND, SUPPLY)
    assert sum(found.values()) == pytest.approx(1) and min(found.values()) > 0
    assert plan.layers(1000, DEMAND._replace(personal=1.0), SUPPLY) == {"edge": 0, "kept": 0, "made": 1}


def test_a_plan_is_the_sum_of_what_requests_cost(measured):
    """Without caches and regions: the rate times the processor time of a request."""
    demand = DEMAND._replace(personal=1.0)
    supply = SUPPLY._replace(regions=1, utilisation=1.0, search=measured["search"])
    table = plan.plan(measured, demand, supply, 1000)
    for part in plan.PARTS:
        assert table.loc[part, "cores"] == pytest.approx(
            plan.made_at(measured, 1.0)["cpu"][part]
        )  # ms a request, 1,000 a second
    assert table["dollars"].sum() == pytest.approx(
        720 * (0.045 * table["processes"].sum() + 0.005 * table["gib"].sum()), rel=1e-6
    )


def test_more_of_what_costs_costs_more(measured):
    def dollars(demand=DEMAND, supply=SUPPLY):
        return plan.plan(measured, demand, supply)["dollars"].sum()

    assert dollars(DEMAND._replace(users=40_000_000)) > dollars() > dollars(supply=SUPPLY._replace(encoder="static"))
    assert dollars(DEMAND._replace(personal=0.4)) > dollars() > dollars(supply=SUPPLY._replace(ttl=600))
    table = plan.sensitivity(measured, DEMAND, SUPPLY)
    assert (table["given"] == table["given"].iloc[0]).all() and table.loc["users", "doubled"] > table["given"].iloc[0]
    by_encoder = plan.by_encoder(measured, DEMAND, SUPPLY)
    assert by_encoder.index[0] != "mpnet" and by_encoder.loc["GPU", "gpus"] >= 3


def test_an_empty_tier_takes_no_time():
    table = simulation.simulate(Site(Service(**NOBODY), 1, 1), 100, 5)
    assert len(table) == pytest.approx(500, rel=0.2) and table["ms"].max() < 1e-6 and not table["failed"].any()


def test_one_worker_queues_as_theory_says():
    """M/D/1 (Pollaczek 1930): the mean wait is rho / 2 (1 - rho) services."""
    site = Site(Service(**NOBODY | {"before": 7.0}), 1, 1)
    table = simulation.simulate(site, 100, 300)
    assert table["ms"].mean() == pytest.approx(7 * (1 + 0.7 / (2 * 0.3)), rel=0.07)
    assert table.attrs["workers"] == pytest.approx(0.7, rel=0.05)


def test_what_slows_an_encoder_slows_a_worker_that_has_its_own():
    site, slow = Site(Service(**NOBODY | {"after": 3.0}, own=4.0), 1, 1), (0, lambda world: setattr(world, "slower", 5))
    table = simulation.simulate(site, 1, 30, events=(slow,))
    assert table["ms"].min() == pytest.approx(3 + 5 * 4)


def test_a_core_is_shared_as_theory_says():
    """M/G/1 with processor sharing (Kleinrock 1967): the mean time is 1 / (1 - rho) services."""
    site = Site(Service(**NOBODY | {"before": 7.0}), 1000, 1, cores=1)
    table = simulation.simulate(site, 100, 300)
    assert table["ms"].mean() == pytest.approx(7 / (1 - 0.7), rel=0.1)


def test_what_a_request_costs_falls_with_the_load():
    """10 ms a request, and 5 more where it comes to an idle one of two cores."""

    def cost(rate: float) -> float:
        """What is 10 + 5 (1 - rate cost / 2000)."""
        return 15 / (1 + 5 * rate / 2000)

    loads = [{"rate": rate, "cpu": {"api": cost(rate)}} for rate in (10, 80)]
    assert cost(20) == pytest.approx(10 + 5 * (1 - 20 * cost(20) / 2000))
    assert simulation.cpu_at(loads, 20)["api"] == pytest.approx(cost(20))


def test_its_limits_are_the_tiers():
    api, triton = ((paths.ROOT / "deploy/scale" / file).read_text() for file in ("api.py", "triton.py"))
    assert f"DEADLINE = {simulation.DEADLINE} " in api and f'("WAITING", "{simulation.WAITING}")' in api
    assert f'("MOST", "{simulation.MOST}")' in triton


def test_an_encoder_takes_together_what_waits():
    site = Site(Service(**NOBODY | {"batch": 20.0, "text": 1.0}), 4, 1)
    few, many = (simulation.simulate(site, rate, 30)["batch"].mean() for rate in (5, 300))
    assert few < 1.5 and many > 6


def test_a_simulated_cache_has_what_the_formula_says():
    site = Site(Service(**NOBODY), 1, 1)
    table = simulation.simulate(site, 300, 60, distinct=10_000)
    assert (table["found"] == "edge").mean() == pytest.approx(plan.hits(300, plan.shares(10_000, 1.0), 60), abs=0.02)


def test_what_happens_to_a_world_is_seen():
    site = Site(Service(**NOBODY | {"text": 5.0}), 1, 1)
    slower = (10, "slow", lambda world: setattr(world, "slower", 30.0))
    events = [slower, (20, "flushed", lambda world: world.kept.clear())]
    table, marks = simulation.story(site, 20, events, 30, distinct=50)
    assert marks == [(10, "slow"), (20, "flushed")]
    assert table.loc[20:22, "p99"].max() > 100 * table.loc[2:9, "p99"].max() and table.loc[20:22, "made"].max() > 0.5
    broken = simulation.simulate(site, 50, 20, events=((10, lambda world: setattr(world, "slower", 30.0)),))
    assert not broken.loc[broken["at"] < 9, "failed"].any() and broken.loc[broken["at"] > 15, "failed"].mean() > 0.9


def test_more_than_can_wait_is_refused_and_the_rest_is_in_time():
    """Twice of what the encoder can do: half of it is answered, and by far within the deadline."""
    site = Site(Service(**NOBODY | {"text": 10.0}), 1, 1)
    table = simulation.simulate(site, 200, 30)
    late = table[table["at"] > 5]
    assert late["failed"].mean() == pytest.approx(0.5, abs=0.05)
    assert simulation.percentiles(late)["p99"] < 1000 and table.attrs["encoders"] == pytest.approx(1, abs=0.02)


PARAMETERS = dict.fromkeys(plan.LIMITS, 1) | {"encoder": "onnx", "target": 0.9999, "users": 20_000_000}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"users": 0, "personal": 1.5}, "users is 0, not 1 to inf; personal is 1.5, not 0 to 1"),
        ({"users": "many", "regions": 2.5}, "users is 'many', not a number; regions is 2.5, not a whole number"),
        ({"users": 1000}, "too few to simulate"),
        ({"target": 1}, "target is 1, not 0 to 0.999999999"),
        ({"encoder": "bert"}, "encoder is 'bert', not one of "),
        ({"users": 10**12}, "too many to simulate"),
    ],
)
def test_parameters_that_make_no_sense_are_named(wrong, said):
    file = paths.ROOT / "benchmarks/tier.json"
    assert plan.read(file, PARAMETERS)["machine"]
    with pytest.raises(errors.WorkbookError, match=said):
        plan.read(file, PARAMETERS | wrong)
    for other in ("none.json", "README.md"):
        with pytest.raises(errors.WorkbookError, match="make scale-bench"):
            plan.read(file.with_name(other), PARAMETERS)


def test_a_calibration_predicts_what_it_was_not_shown(measured):
    """Loads made by the simulation itself, with values that it is not told; the one in between is held back."""
    true = simulation.service_of(measured, path=8.0, spread=0.7)
    loads = [load | {"rate": rate} for load, rate in zip(measured["loads"], (20.0, 40.0, 60.0), strict=False)]
    fitted = [loads[0], loads[2]]
    made = simulation.check(measured | {"loads": loads}, true, 2, fitted, 4000)
    for load, (_, row) in zip(loads, made.iterrows(), strict=True):
        load |= {name: row[f"{name} simulated"] for name in ("p50", "p99")}
    service = simulation.calibrate(measured, 2, fitted, 1000)
    held = simulation.check(measured | {"loads": [loads[1]]}, service, 2, fitted, 4000).iloc[0]
    for name in ("p50", "p99"):
        assert held[f"{name} simulated"] == pytest.approx(held[name], rel=0.15)


def test_the_budget_counts_what_fails(measured):
    events = {"all fail for a minute": {"seconds": 60, "share": 1.0, "a_month": 1}}
    table = plan.budget(
        measured | {"restarts": {"api": {"requests": 1000, "failed": 2, "load": 10}}}, 0.9999, 86_400, events
    )
    assert table.loc["all fail for a minute", "failed"] == 60
    assert table.loc["all fail for a minute", "of_budget"] == pytest.approx(60 / (1e-4 * 30 * 86_400))
    # Two fail where 100 a second come; where one does, a hundredth of that; thirty times a month.
    assert table.loc["every api replaced, daily", "failed"] == pytest.approx(30 * 2 / 100)
