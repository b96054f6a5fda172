"""What listeners do and what is learnt from it: the lake, the bias of places, pairs, time, the gate, the whole loop."""

import dataclasses
import shutil
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from deploy.scale.events.schema import Record
from lib.core import encoder, files, measures, paths, processes
from lib.core.errors import WorkbookError
from lib.feedback import judging, lake, learning, listening, position, simulation
from lib.finetune import training
from lib.finetune.evaluator import RequestEvaluator
from lib.search import forms, indexing, recommender
from lib.serve import promotion
from lib.workbook import learning as command
from lib.workbook import parameters

TRUE = simulation.EXAMINED
TRACKS = pd.Series(["a", "b", "c", "t"])


def shown_by(rng, requests: int, order, relevance, places: int = 10) -> pd.DataFrame:
    """Impressions of answers to one text: `order` draws the tracks of an answer, listeners look by `TRUE`."""
    rows = []
    for number in range(requests):
        for place, track in enumerate(order(rng)[:places]):
            tried = rng.random() < TRUE[place] * relevance[track]
            rows.append((f"r{number}", f"s{number}", f"t{track}", place + 1, "moody", tried, int(tried)))
    columns = ["request", "session", "track", "position", "text", "tried", "gain"]
    return pd.DataFrame(rows, columns=columns).assign(at=simulation.START)


def event(kind: str, request: str, track: str, minutes: float = 0, **more) -> dict:
    at = simulation.START + timedelta(minutes=minutes)
    ids = {"id": f"{request}{track}{kind}", "kind": kind, "request": request, "track": track, "session": f"s-{request}"}
    return ids | {"at": at, "received": at} | more


def events(*rows: dict) -> pd.DataFrame:
    return pd.DataFrame(rows).reindex(columns=lake.COLUMNS)


# the lake


def test_a_lake_gives_each_event_of_its_hours_once(tmp_path):
    rows = [event("shown", f"r{i}", "t1", 30 * i, position=1, text="calm") for i in range(6)]
    lake.write(rows, tmp_path)
    shutil.copy(*(tmp_path / f"dt=2026-11-30/hour=06/{name}.parquet" for name in ("00000000-0", "00000001-0")))
    assert {p.parent.name for p in tmp_path.rglob("*.parquet")} == {"hour=06", "hour=07", "hour=08"}
    read, damaged = lake.read(str(tmp_path))
    assert read["request"].tolist() == [f"r{i}" for i in range(6)] and not damaged
    some, _ = lake.read(str(tmp_path), "2026-11-30T06:30", "2026-11-30T08")
    assert some["request"].tolist() == ["r1", "r2", "r3"]


@pytest.mark.parametrize("harm", [lambda b: b"no parquet", lambda b: b[: len(b) // 2], lambda b: b""])
def test_damaged_files_are_named_and_left_out(tmp_path, harm):
    lake.write([event("shown", f"r{i}", "t1", 60 * i, position=1) for i in range(2)], tmp_path)
    file = tmp_path / "dt=2026-11-30/hour=07/00000000-0.parquet"
    file.write_bytes(harm(file.read_bytes()))
    read, damaged = lake.read(str(tmp_path))
    assert damaged == ["dt=2026-11-30/hour=07/00000000-0.parquet"]
    assert read["request"].tolist() == ["r0"]


def test_a_missing_lake_and_a_wrong_time_are_errors(tmp_path):
    with pytest.raises(WorkbookError, match="no lake can be read at"):
        lake.read(str(tmp_path / "nowhere"))
    with pytest.raises(WorkbookError, match="since is 'yesterday eve'"):
        lake.read(str(tmp_path), "yesterday eve")


def test_an_hour_without_events_says_what_to_do(tmp_path):
    lake.write([event("shown", "r", "t", position=1)], tmp_path)
    read, _ = lake.read(str(tmp_path), since="2026-12-01T00")
    with pytest.raises(WorkbookError, match=r"0 events, and none shows a track of this run.*since"):
        listening.impressions(read, TRACKS)


# impressions


def test_impressions_join_what_was_done_with_what_was_shown():
    shown = listening.impressions(
        events(
            event("shown", "r", "a", position=1, text="Calm  Music"),
            event("shown", "r", "b", position=2, text="Calm  Music"),
            event("shown", "r", "c", position=3, text="Calm  Music"),
            *(event(kind, "r", "a") for kind in ("played", "liked")),
            *(event(kind, "r", "b") for kind in ("played", "skipped")),
            event("liked", "r", "not shown"),
            event("shown", "r", "of another catalogue", position=4, text="Calm  Music"),
        ),
        TRACKS,
    )
    assert shown["track"].tolist() == ["a", "b", "c"] and shown["gain"].tolist() == [2, -1, 0]
    assert shown["tried"].tolist() == [True, True, False]
    assert listening.funnel(shown).to_dict() == {"shown": 3, "played": 2, "liked": 1, "skipped or disliked": 1}
    assert set(listening.with_text(shown)["text"]) == {"calm music"}
    assert listening.summary(shown, 4)["catalogue never shown"] == "25%"


def test_a_log_without_text_is_refused():
    with pytest.raises(WorkbookError, match="--log-text"):
        listening.with_text(listening.impressions(events(event("shown", "r", "a", position=1)), TRACKS))


def test_no_session_and_no_text_is_on_both_sides_of_the_border():
    rows = [event("shown", f"r{i}", "a", 10 * i, position=1, text=f"text {i % 30}") for i in range(40)]
    rows.append(event("shown", "r39", "b", 1, position=2, text="text 9"))  # the session of r39 begins early
    before, after, repeated = listening.by_time(listening.impressions(events(*rows), TRACKS), 0.3)
    assert not set(before["session"]) & set(after["session"]) and not set(before["text"]) & set(after["text"])
    assert "r39" in set(before["request"]) and before["at"].min() < after["at"].min()
    assert (after["at"] >= simulation.START + timedelta(hours=4)).all()  # a full hour
    assert repeated == 9  # r30 to r38 repeat the first texts
    with pytest.raises(WorkbookError, match="too few to train and to measure"):
        listening.by_time(before.assign(text="same"), 0.3)


# the bias of places


def test_propensities_are_recovered_where_good_tracks_stand_first():
    """Answers are sorted by relevance with noise: the raw rate falls far more steeply than the looks."""
    rng = np.random.default_rng(1)
    relevance = np.linspace(0.9, 0.1, 14)
    order = lambda rng: np.argsort(-(relevance + rng.normal(0, 0.25, 14)))  # noqa: E731
    table = position.propensities(shown_by(rng, 4000, order, relevance))
    raw = table["rate"] / table["rate"][1]
    assert np.abs(table["propensity"] - TRUE).max() < 0.06
    assert np.abs(raw - TRUE).max() > 0.1


def test_without_tracks_at_several_places_nothing_is_corrected():
    shown = shown_by(np.random.default_rng(1), 300, lambda rng: np.arange(10), np.full(10, 0.5))
    assert (position.propensities(shown)["propensity"] == 1).all()


def test_the_correction_finds_a_good_track_at_the_bottom():
    """The better track is always last: raw gains prefer the worse one."""
    rng, relevance = np.random.default_rng(1), np.linspace(0.4, 0.9, 10)
    shown = shown_by(rng, 2000, lambda rng: np.arange(10), relevance)
    truth = pd.Series(TRUE, range(1, 11))
    best = {clip: learning.graded(shown, truth, clip).nlargest(1, "gain")["track"].item() for clip in (0.1, 1)}
    assert best == {0.1: "t9", 1: "t0"}


# pairs


@pytest.fixture(scope="module")
def data():
    from lib.tracks import listener_requests, synthetic

    tracks = synthetic.generate(300, seed=1)
    return tracks, listener_requests.generate(tracks, 200, 1)


def judged_by(tracks: pd.DataFrame, gain: float = 1.0) -> pd.DataFrame:
    table = pd.DataFrame({"text": "goblin mode", "track": tracks["id"], "gain": gain, "looks": 3.0, "sessions": 3})
    return table.assign(text=table["text"] + " " + tracks["mood"], grade=2)


def test_listeners_pairs_come_from_liked_tracks_of_the_training_split(data):
    tracks, requests = data
    learnt = learning.training_requests(judged_by(tracks), tracks, requests)
    assert set(learnt["target"]) == set(tracks.loc[tracks["split"] == "train", "id"])
    assert set(learnt) == {*requests, "gain"}
    shares = {"request_share": 0.2, "mood_share": 0.3, "artist_share": 0.1}
    pairs = learning.mixed_pairs(tracks, requests, learnt, 400, 0.5, 32, 7, **shares)
    new = pairs[pairs["kind"] == "listeners"]
    assert new["anchor"].str.startswith("goblin mode").all() and 100 < len(new) <= 200
    assert not new.duplicated(["batch", "anchor"]).any()  # a mood once in a batch
    assert pairs["batch"].is_monotonic_increasing and len(pairs) - len(new) > 150
    assert not set(new["batch"]) & set(pairs.loc[pairs["kind"] != "listeners", "batch"])


def test_one_listener_teaches_nothing_and_skips_teach_nothing(data):
    tracks, requests = data
    one = shown_by(np.random.default_rng(1), 2, lambda rng: np.arange(10), np.ones(10))
    assert learning.graded(one, pd.Series(TRUE, range(1, 11)), 0.1, least=3).empty
    with pytest.raises(WorkbookError, match="nothing to learn"):
        learning.training_requests(judged_by(tracks, -1.0).assign(grade=0), tracks, requests)


# the gate

BETTER = {"mean": 0.1, "low": 0.05, "high": 0.15}
SAME = {"mean": 0.0, "low": -0.01, "high": 0.01}


@pytest.mark.parametrize(
    ("later", "typed", "passes", "reason"),
    [
        (BETTER, SAME, True, "better on later events"),
        (SAME, SAME, False, "not clearly better on later events"),
        (BETTER, {"mean": -0.03, "low": -0.07, "high": 0.01}, False, "worse on typed"),
        (BETTER, {"mean": -0.01, "low": -0.015, "high": -0.005}, False, "worse on typed"),
    ],
)
def test_the_gate_keeps_out_a_model_that_is_not_better_or_forgot(later, typed, passes, reason):
    passed, why = judging.gate(later, {"typed": typed, "worded": SAME}, 0.02)
    assert passed == passes and reason in why and "\n" not in why


def test_spare_folders_are_not_served(tmp_path, monkeypatch):
    monkeypatch.setattr(promotion, "ROOT", tmp_path)
    (tmp_path / "outputs").mkdir()
    first = promotion.spare("learned", tmp_path / "outputs" / "quick")
    assert first.name == "learned"
    first.mkdir()
    files.point(tmp_path / "outputs" / "current", first)
    files.point(tmp_path / "outputs" / "previous", tmp_path / "outputs" / "learned-2")
    assert promotion.spare("learned", first).name == "learned-3"


# the whole loop


@pytest.fixture(scope="module")
def log(small_run):
    """An hour's events of simulated listeners, whom the small run answers."""
    songs = recommender.open_run(small_run)
    tracks, requests = (pd.read_parquet(small_run / f"{name}.parquet") for name in ("tracks", "requests"))
    return songs, tracks, requests, simulation.listen(songs, tracks, requests, 700, hours=6, later=2, seed=7)


def test_simulated_events_follow_the_schema_and_repeat(log):
    songs, tracks, requests, rows = log
    for row in rows[:: len(rows) // 100]:
        Record.model_validate(row)
    assert len({row["id"] for row in rows}) == len(rows)
    again = simulation.listen(songs, tracks, requests, 20, hours=6, later=2, seed=7)
    assert again == simulation.listen(songs, tracks, requests, 20, hours=6, later=2, seed=7)
    with pytest.raises(WorkbookError, match="name a lake of real events"):
        simulation.listen(songs, tracks.assign(mood=""), requests, 20, hours=6, later=2, seed=7)


def test_wordings_of_earlier_and_later_hours_differ():
    earlier, later = simulation.wordings("earlier"), simulation.wordings("later")
    assert not set(earlier["text"]) & set(later["text"]) and set(earlier["mood"]) == set(later["mood"])


class Noise(encoder.Form):
    """An encoder that has forgotten everything."""

    def get_embedding_dimension(self):
        return 384

    def batches(self, texts, together):
        yield np.arange(len(texts)), np.random.default_rng(len(texts[0])).normal(size=(len(texts), 384))

    def tokens(self, texts):
        raise NotImplementedError


def test_a_model_that_forgot_is_kept_out(log):
    songs, tracks, requests, rows = log
    shown = listening.with_text(listening.impressions(events(*rows[:5000]), tracks["id"]))
    flat = pd.Series(1.0, range(1, 11))
    worse = dataclasses.replace(songs, model=Noise())
    later = judging.difference(*(judging.on_events(one, shown, flat, 0.1) for one in (songs, worse)))
    texts = [judging.on_other_text(one, tracks, requests) for one in (songs, worse)]
    others = {name: judging.difference(texts[0][name], texts[1][name]) for name in texts[0]}
    assert judging.gate(later, others, 0.02)[0] is False
    assert judging.gate(BETTER, others, 0.02)[1].startswith(f"it is worse on {judging.TYPED}")
    same = {name: judging.difference(texts[0][name], texts[0][name]) for name in texts[0]}
    assert judging.gate(BETTER, same, 0.02)[0] is True


def test_the_loop_finds_what_simulated_listeners_want(log, small_run, tmp_path):
    """The next model answers new wordings better, by true preferences over the whole catalogue."""
    songs, tracks, requests, rows = log
    lake.write(rows, tmp_path / "events")
    shown = listening.with_text(listening.impressions(lake.read(str(tmp_path / "events"))[0], tracks["id"]))
    before, _, _ = listening.by_time(shown, 0.33)
    propensity = position.propensities(before)["propensity"]
    assert np.abs(propensity - TRUE).mean() < 0.1
    learnt = learning.training_requests(learning.graded(before, propensity, 0.1, 2), tracks, requests)
    assert not set(learnt["text"]) & set(simulation.wordings("later")["text"])
    shares = {"request_share": 0.1, "mood_share": 0.42, "artist_share": 0.09}
    pairs = learning.mixed_pairs(tracks, requests, learnt, 320, 0.7, 16, 7, **shares)
    model, dev = encoder.load(small_run / "model", 64), RequestEvaluator(*measures.held_out(tracks, requests, "dev"))
    recipe = training.Recipe(1, 2e-4, 0.1, 9, 0.2, 64, 7)
    training.train(model, pairs, dev, recipe, tmp_path / "checkpoints")
    training.save(model, tmp_path, "card", {})
    forms.export(tmp_path, "torch", tracks, requests, 0, 7)
    indexing.build_index(tmp_path, tracks, "torch")
    following = recommender.open_run(tmp_path)
    preferences = simulation.graded(simulation.wordings("later"), tracks).set_index("request_id", drop=False)
    last, after = (judging.on_preferences(one, preferences) for one in (songs, following))
    gain = judging.ratio(last, after, preferences["mood"])
    assert gain["ratio"] >= 1.1, gain
    assert gain["low"] > 1, gain


# the command


def test_learn_takes_parameters_of_its_notebook():
    values = parameters.overridden(command.NOTEBOOK, ["since=2026-11-30", "n_pairs=20", "promote=true"])
    assert (values["since"], values["n_pairs"], values["promote"], values["lake"]) == ("2026-11-30", 20, True, "")
    with pytest.raises(WorkbookError, match="did you mean 'n_pairs'"):
        parameters.overridden(command.NOTEBOOK, ["n_pair=20"])


def test_learn_refuses_a_run_that_is_none_and_a_second_process(tmp_path, monkeypatch):
    with pytest.raises(WorkbookError, match=r"has no tracks\.parquet"):
        command.learn(str(tmp_path), [])
    monkeypatch.setattr(command.runs, "need", lambda *_: None)
    with (
        processes.only_one(paths.ROOT / "outputs", ".learn.lock"),
        pytest.raises(WorkbookError, match="another process learns in outputs"),
    ):
        command.learn(str(tmp_path), [])
