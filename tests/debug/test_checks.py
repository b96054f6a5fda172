"""The scorecard: each check passes on a healthy space and fails on one with its fault."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from spaces import D, N, unit, verdicts

from lib.core import measures
from lib.debug import checks, scorecard, similarity, space, suspects
from lib.search.match import BANDS

CONTRADICTED = "tracks whose neighbours have another mood"


def vector_checks(vectors: np.ndarray) -> dict:
    """All checks on vectors alone."""
    near, cosine = space.neighbours(vectors[np.isfinite(vectors).all(axis=1)])
    return checks.health(vectors) | checks.neighbourhood(near, cosine)


def mood_checks(vectors: np.ndarray, moods: pd.Series) -> dict:
    return similarity.figures(similarity.all_pairs(vectors, moods))


def test_a_healthy_space_passes(healthy, tracks, base):
    near, _ = space.neighbours(healthy)
    results = vector_checks(healthy) | checks.descriptions(tracks, near) | mood_checks(healthy, tracks["mood"])
    results["texts cut at the token limit"] = (checks.token_lengths(base, tracks["text"]) > base.max_seq_length).mean()
    results["overlap of moods"] = results["overlap"]
    results |= checks.steadiness(base, tracks["text"].head(8).tolist())
    results |= checks.form_checks(checks.written_forms(base, tracks["text"].head(8).tolist()))
    judged = verdicts(results)
    assert set(judged.values()) == {"ok", "not measured"} and list(judged.values()).count("ok") == 18, judged


def collapsed(vectors, rng):
    return unit(vectors[:1] + 1e-2 * vectors)


def with_nan(vectors, rng):
    return np.where(np.arange(N)[:, None] == 3, np.float32(np.nan), vectors)


def rank_one(vectors, rng):
    return unit(vectors[:1] + rng.normal(size=(N, 1)) * vectors[1:2])


def with_hubs(vectors, rng):
    """Random directions from a common centre; the tracks near the centre are neighbours of all others."""
    away = np.where(np.arange(N) < 12, 0.5, 3.0)[:, None]
    return unit(np.eye(1, 200) * 2 + away * rng.normal(size=(N, 200)) / 14)


def with_dead_dimension(vectors, rng):
    return unit(np.where(np.arange(D) == 5, 0, vectors))


FAULTS = {
    "mean cosine (anisotropy)": collapsed,
    "uniformity": collapsed,
    "values that are not finite": with_nan,
    "effective rank / most possible": rank_one,
    "hubness (skewness)": with_hubs,
    "constant dimensions": with_dead_dimension,
    "smallest norm": lambda vectors, rng: vectors * np.linspace(0.5, 1, N)[:, None],
    "largest norm": lambda vectors, rng: vectors * np.linspace(1, 2, N)[:, None],
    "tracks with an identical vector": lambda vectors, rng: np.concatenate([vectors[:-20], vectors[:20]]),
    "tracks with a near-identical vector": lambda vectors, rng: unit(
        np.concatenate([vectors[:-40], vectors[:40] + 1e-3 * rng.normal(size=(40, D))])
    ),
}


@pytest.mark.parametrize("check", FAULTS)
def test_faulty_vectors_fail_their_check(check, healthy, rng):
    assert verdicts(vector_checks(healthy))[check] == "ok"
    assert verdicts(vector_checks(FAULTS[check](healthy, rng)))[check] in ("look", "broken")


def test_faulty_descriptions_fail_their_check(healthy, tracks):
    near, _ = space.neighbours(healthy)
    original = tracks["description"]
    repeated = original.where(original.index > 20, original[0])
    similar = "one and the same slow song with soft piano, strings and voice " + original.index.astype(str)
    for check, faulty in (("repeated descriptions", repeated), ("near-duplicate descriptions", similar)):
        assert verdicts(checks.descriptions(tracks.assign(description=faulty), near))[check] == "look"
    assert "near-duplicate descriptions" not in checks.descriptions(tracks, None)


def test_long_texts_have_more_tokens_than_the_encoder_reads(base):
    lengths = checks.token_lengths(base, ["short", "very long " * 300])
    assert (lengths > base.max_seq_length).tolist() == [False, True]
    assert verdicts({"texts cut at the token limit": 0.5})["texts cut at the token limit"] == "look"


class Characters:
    """An encoder with faults: it counts characters, so case matters; a batch or a GPU adds to the counts."""

    def __init__(self, device="cpu", batch=0.0, gpu=0.0):
        self.device, self.batch, self.gpu = SimpleNamespace(type=device), batch, gpu

    def to(self, device):
        self.device = SimpleNamespace(type=device) if isinstance(device, str) else device
        return self

    def get_embedding_dimension(self):
        return 95

    def encode(self, texts, **_):
        counts = np.array([[text.count(chr(c)) for c in range(32, 127)] for text in texts], dtype=np.float32) + 0.01
        counts[:, 0] += self.batch * (len(texts) > 1) + self.gpu * (self.device.type == "cuda")
        return unit(counts)


@pytest.mark.parametrize(
    ("model", "check"),
    [
        (Characters(batch=1), "alone or in a batch: difference / tolerance"),
        (Characters(batch=np.nan), "alone or in a batch: difference / tolerance"),
        (Characters("cuda", gpu=1), "CPU or GPU: difference / tolerance"),
    ],
)
def test_an_unsteady_encoder_fails(tracks, model, check):
    texts = tracks["text"].head(4).tolist()
    assert set(checks.steadiness(Characters(), texts).values()) == {0}
    assert verdicts(checks.steadiness(model, texts))[check] == "look"


def test_an_encoder_that_depends_on_the_written_form_fails(tracks, base):
    faulty = checks.form_checks(checks.written_forms(Characters(), tracks["text"].head(4).tolist()))
    judged = verdicts(faulty)
    assert judged["white space and case: cosine"] == judged["Unicode forms: cosine"] == "look"
    cosine = checks.written_forms(base, ["Sad piano for a rainy day"])
    assert cosine.drop("full-width letters").min() > 0.999  # BERT's tokenizer does not know full-width letters


def test_moods_that_are_not_distinguished_fail(healthy, tracks, rng):
    good = mood_checks(healthy, tracks["mood"])
    bad = mood_checks(healthy, pd.Series(rng.permutation(tracks["mood"])))
    names = {"same mood is closer": "same mood is closer", "overlap": "overlap of moods"}
    results = {check: bad[figure] for figure, check in names.items()}
    results["same mood is closer, over base"] = bad["same mood is closer"] - good["same mood is closer"]
    judged = verdicts(results)
    assert {judged[check] for check in results} == {"look"}


def test_mislabelled_tracks_are_suspects(healthy, tracks):
    near, _ = space.neighbours(healthy)
    assert not suspects.neighbour_moods(tracks, near)["contradicts"].any()
    moved = tracks.assign(mood=tracks["mood"].where(tracks.index % 10 < 7, tracks["mood"].shift(1, fill_value="mood5")))
    votes = suspects.neighbour_moods(moved, near)
    wrong, mislabelled = set(votes.loc[votes["contradicts"], "id"]), set(tracks["id"][tracks.index % 10 >= 7])
    both = wrong & mislabelled
    assert len(both) > 0.6 * len(mislabelled) and len(both) > 0.7 * len(wrong)
    assert verdicts({CONTRADICTED: votes["contradicts"].mean()})[CONTRADICTED] == "look"


def test_an_unknown_mood_is_no_suspect(healthy, tracks):
    tracks.loc[5, "mood"], tracks.loc[11, "mood"] = "mood0", ""
    votes = suspects.neighbour_moods(tracks, space.neighbours(healthy)[0])
    wrong = votes[votes["contradicts"]]
    assert wrong["id"].tolist() == ["t5"] and wrong["neighbours_mood"].tolist() == ["mood5"]


def test_hubs_come_first(rng, tracks):
    table = suspects.hubs(tracks, space.neighbours(with_hubs(None, rng))[0])
    assert set(table["id"].head(12)) == set(tracks["id"].head(12)) and table["neighbour_of"].sum() == 10 * N


def test_requests_without_a_close_track_come_first(tracks):
    vectors, queries = np.eye(2, D, dtype=np.float32), np.eye(3, D, dtype=np.float32)
    requests = pd.DataFrame({"text": ["near", "near, too", "far"]})
    table = suspects.farthest(queries, requests, vectors, tracks.head(2))
    assert table["text"][0] == "far" and table["cosine"].tolist() == [0, 1, 1]
    assert table["nearest_title"][1] == "Song 0"
    check = "requests without a close track"
    assert verdicts({check: (table["cosine"] < 0.4).mean()})[check] == "look"


def test_checks_without_neighbours_are_not_measured(tracks):
    assert space.neighbours(np.eye(20, D, dtype=np.float32)) is None
    votes = suspects.neighbour_moods(tracks, None)
    judged = verdicts(checks.neighbourhood(None, None) | {CONTRADICTED: votes["contradicts"].mean()})
    assert set(judged.values()) == {"not measured"} and suspects.hubs(tracks, None).empty


def test_every_check_has_a_test_that_fails_it():
    others = {
        "repeated descriptions", "near-duplicate descriptions", "texts cut at the token limit",
        "alone or in a batch: difference / tolerance", "CPU or GPU: difference / tolerance",
        "white space and case: cosine", "Unicode forms: cosine", "same mood is closer",
        "same mood is closer, over base", "overlap of moods", CONTRADICTED, "requests without a close track",
        "trustworthiness of the map",
    }  # fmt: skip
    assert set(scorecard.CHECKS.index) == others | set(FAULTS) and len(scorecard.CHECKS) == 23


def test_the_scorecard_quotes_the_limits_of_the_code():
    card = scorecard.CHECKS
    assert card["high"]["uniformity"] == measures.CROWDED
    assert f"cosine from {checks.NEAR_VECTORS}" in card["source"]["tracks with a near-identical vector"]
    assert f"{checks.NEAR_WORDS:.0%}".replace("%", " %") in card["source"]["near-duplicate descriptions"]
    assert f"below {BANDS['borderline']}," in card["source"]["requests without a close track"]
