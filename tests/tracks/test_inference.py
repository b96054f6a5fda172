"""Moods inferred for tracks without one."""

import numpy as np
import pytest

from lib.core import errors
from lib.tracks import completing, importing, inference, listener_requests, synthetic

SPOTIFY = {"title": "name", "duration_ms": "length"}


def read(path, columns, describe_from=("mood", "genre", "decade", "features"), infer_moods=()):
    catalogue = importing.import_catalogue(str(path), columns, {}, {}, {}, 0, 1)
    tracks = completing.complete(
        catalogue.tracks, list(describe_from), list(infer_moods), ["features", "words"], None, 1
    )
    return tracks, catalogue.left_out


def test_spotify_moods_import(shared):
    tracks, left_out = read(shared / "data/spotify-moods.csv", SPOTIFY)
    assert len(tracks) + len(left_out) == 686 and set(tracks["mood"]) == {"happy", "sad", "calm", "energetic"}
    assert set(tracks["mood_source"]) == {"given"} and len(listener_requests.generate(tracks, 200, 1)) == 200


def test_hidden_moods_of_real_tracks_are_inferred(shared):
    """Of four moods 60 % are right (chance: 29 %), and the confidence is near the accuracy."""
    truth = read(shared / "data/spotify-moods.csv", SPOTIFY)[0]["mood"]
    hidden = {"columns": SPOTIFY | {"mood": ""}, "infer_moods": sorted(set(truth)), "describe_from": ["genre"]}
    tracks, _ = read(shared / "data/spotify-moods.csv", **hidden)
    right = tracks["mood"] == truth
    assert right.mean() >= 0.6 and not tracks["text"].str.contains("energetic").all()
    assert abs(tracks["mood_confidence"].mean() - right.mean()) < 0.1
    sure = tracks["mood_confidence"] > tracks["mood_confidence"].median()
    assert right[sure].mean() > right[~sure].mean() + 0.05


def test_musiccaps_import(shared):
    columns = {"id": "ytid", "description": "caption", "tags": "aspect_list"}
    tracks, _ = read(shared / "data/musiccaps-dev.csv", columns)
    assert len(tracks) == 2663 and not tracks["tags"].str.startswith("[").any()
    assert set(tracks["mood_source"]) <= {"words", "none"}
    assert listener_requests.generate(tracks, 200, 1)["text"].str.len().min() > 5


def test_inference_names_its_evidence():
    tracks = synthetic.generate(2000, seed=3).head(300).assign(genre="")
    bare = tracks.assign(title="", description="", tags="", **dict.fromkeys(inference.FEATURES, np.nan))
    assert set(inference.infer(bare, [], ["features", "words"], None, 1)["source"]) == {"none"}
    by_features = inference.infer(tracks, [], ["features"], None, 1)
    assert set(by_features["source"]) == {"features"} and (by_features["mood"] == tracks["mood"]).mean() > 0.2
    by_both = inference.infer(tracks, [], ["features", "words"], None, 1)
    assert (by_both["mood"] == tracks["mood"]).mean() > (by_features["mood"] == tracks["mood"]).mean() + 0.1


def test_unknown_or_too_few_moods_are_refused():
    tracks = synthetic.generate(20, seed=3)
    with pytest.raises(errors.WorkbookError, match="infer_moods: polka is not one of"):
        inference.infer(tracks, ["polka", "calm"], ["words"], None, 1)
    with pytest.raises(errors.WorkbookError, match="one mood leaves no choice"):
        inference.infer(tracks, ["calm"], ["words"], None, 1)
