"""Maps: groups, trustworthiness, alignment, colours, and the interactive page in a browser."""

import re
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from browser import click_map, opened
from colorspacious import cspace_convert, deltaE
from matplotlib.colors import to_rgb
from spaces import D, N, unit, verdicts

from lib.core import pages, style
from lib.debug import maps, pictures, space
from lib.tracks import synthetic


@pytest.mark.slow
def test_a_map_keeps_groups_and_is_judged(healthy, monkeypatch, rng):
    monkeypatch.setattr(space, "EXACT", 300)  # UMAP fits half of the tracks and places the others among them
    apart = unit(healthy + 4 * np.eye(6, D)[np.arange(N) % 6])
    points = maps.project(apart, 7)
    assert points.shape == (N, 2) and np.isfinite(points).all()
    assert np.array_equal(points, maps.project(apart, 7))
    centres = np.array([points[k::6].mean(axis=0) for k in range(6)])
    nearest = np.linalg.norm(points[:, None] - centres, axis=2).argmin(axis=1)
    assert (nearest == np.arange(N) % 6).mean() > 0.95
    good, bad = maps.judge(apart, points, 7), maps.judge(apart, rng.normal(size=(N, 2)), 7)
    assert good["trustworthiness"] > 0.8 > 0.6 > bad["trustworthiness"]
    assert good["neighbours kept"] > 4 * bad["neighbours kept"]
    assert verdicts({"trustworthiness of the map": bad["trustworthiness"]})["trustworthiness of the map"] == "look"


def test_the_fewest_tracks_for_a_map_are_judged(healthy, capsys):
    few = healthy[: space.FEWEST]
    assert 0 <= maps.judge(few, few[:, :2], 7)["trustworthiness"] <= 1
    assert space.can_compare(few) and maps.project_all({"base": few[:-1]}, 7) == {}
    assert "A map needs at least 21 tracks; there are 20." in capsys.readouterr().out


def test_maps_are_turned_to_match_each_other(rng):
    points, angle = rng.normal(size=(50, 2)), 2.0
    turned = points @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * [1, -1] + 5
    assert np.allclose(maps.aligned(turned, points), points - points.mean(axis=0), atol=1e-6)


def test_maps_are_coloured_by_what_most_tracks_have(rng, tracks):
    assert maps.ways(tracks) == ["mood", "genre", "energy"]
    bare = tracks.assign(genre="", energy=np.nan, mood=tracks["mood"].where(tracks.index < 9, ""))
    assert maps.ways(bare) == ["artist"]
    points, judged = {"tuned": rng.normal(size=(N, 2))}, {"tuned": {"trustworthiness": 0.9, "neighbours kept": 0.5}}
    axes = pictures.umap(points, bare.assign(artist=["A", "B"] * (N // 2)), judged, ["artist"]).axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["A", "B"]
    axes = pictures.umap(points, bare.assign(artist=[f"artist {i}" for i in range(N)]), judged, ["artist"]).axes[0]
    assert axes.get_legend() is None and axes.get_title("left") == "tuned"  # one colour


def test_all_moods_and_families_of_genres_are_told_apart_and_the_title_is_a_finding(rng):
    tracks = synthetic.generate(N, seed=1)
    mood = pd.Categorical(tracks["mood"]).codes
    points = {"tuned": np.stack([mood, np.zeros(N)], axis=1) + rng.normal(size=(N, 2)) / 99}  # each mood apart
    judged = {"tuned": {"trustworthiness": 0.5, "neighbours kept": 0.5}}
    figure = pictures.umap(points, tracks, judged, ["mood", "genre"])
    for axes, values in zip(figure.axes, (tracks["mood"], maps.coloured(tracks, "genre")), strict=True):
        dots = {dot.get_label(): dot for dot in axes.collections}
        looks = {(tuple(dot.get_facecolor()[0]), dot.get_paths()[0].vertices.tobytes()) for dot in dots.values()}
        assert set(dots) >= set(values.value_counts().index[:16]) and len(looks) == len(dots) >= 16
    title = figure.get_suptitle()
    share, chance = re.findall(r"(\d+) %|(\d+)%", title)[0], maps.sharing(points["tuned"], tracks["mood"])[1]
    assert max(map(int, filter(None, share))) > 90 and f"by chance {chance:.0%}" in title and chance < 0.1
    assert "too low to interpret" in figure.axes[0].get_xlabel()


def test_names_are_text_and_not_code(chromium, tmp_path):
    """Click a song with a hostile title in the interactive map, and show the title in a table."""
    vectors = unit(np.random.default_rng(0).normal(size=(40, 8)))
    evil = "</iframe></script><script>alert(1)</script><img src=x onerror=alert(2)>"
    tracks = pd.DataFrame({"title": [evil] * 40, "artist": evil, "mood": evil, "genre": evil, "text": evil})
    spaces = dict.fromkeys(("base", "tuned"), vectors)
    points = dict.fromkeys(spaces, vectors[:, :2])
    frame = maps.interactive(points, spaces, tracks.assign(energy=np.nan))
    file = tmp_path / "page.html"
    file.write_text(f"<!doctype html><meta charset=utf-8><main>{frame}{pages.table(tracks.head(1))}</main>")
    with opened(chromium, file, "desktop") as page:
        assert evil in click_map(page)[0] and page.trouble == []


@pytest.mark.parametrize("blindness", ["deuteranomaly", "protanomaly"])
def test_colours_differ_for_colour_blind_readers(blindness):
    """Compare in CAM02-UCS, where 1 is just visible, as simulated by Machado et al. 2009 at full severity."""
    space_name = {"name": "sRGB1+CVD", "cvd_type": blindness, "severity": 100}
    for colors in ((*style.PALETTE, style.BASE), (*style.PALETTE, style.FAINT)):
        simulated = [np.clip(cspace_convert(to_rgb(color), space_name, "sRGB1"), 0, 1) for color in colors]
        for (a, one), (b, other) in combinations(zip(colors, simulated, strict=True), 2):
            assert deltaE(one, other, input_space="sRGB1") > 10, (a, b)
