"""The debugger: every check fails on what was made to fail it, and passes on a sound space; maps; refusals."""

import subprocess
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from colorspacious import cspace_convert, deltaE
from jupyter_client import KernelManager
from matplotlib.colors import to_rgb
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from sentence_transformers import SentenceTransformer

from lib.core import base_models, encoder, paths, style
from lib.debug import checks, maps, scorecard, similarity
from lib.search import indexing

N, D = 600, 32


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def sound(rng) -> np.ndarray:
    """Six moods that lie apart, in a space that is used whole."""
    return unit(rng.normal(size=(N, D)) + 5 * np.eye(6, D)[np.arange(N) % 6])


@pytest.fixture
def tracks() -> pd.DataFrame:
    words = ["slow piano", "fast drums", "warm strings", "loud guitars", "quiet choir", "bright synths"]
    table = pd.DataFrame({"id": [f"t{i}" for i in range(N)], "artist": "A", "genre": "pop", "energy": 0.5})
    table["title"] = [f"Song {i}" for i in range(N)]
    table["mood"] = [f"mood{i % 6}" for i in range(N)]
    table["description"] = [f"{words[i % 6]} number {i} in key {i * 7} with voice {i * 13}" for i in range(N)]
    return table.assign(text=table["title"] + ". " + table["description"])


@pytest.fixture(scope="module")
def base() -> SentenceTransformer:
    return encoder.load(base_models.find("all-MiniLM-L6-v2"))


def verdicts(found: dict) -> dict[str, str]:
    card = scorecard.judge(found)
    return dict(zip(card["check"], card["verdict"], strict=True))


def vector_checks(vectors: np.ndarray) -> dict:
    found = checks.health(vectors)
    if near := checks.neighbours(vectors[np.isfinite(vectors).all(axis=1)]):
        found |= {"hubness (skewness)": checks.hubs(near[0])[0]} | checks.duplicates(near[1])
    return found


# every check


def test_a_sound_space_is_healthy(sound, tracks, base):
    near, _ = checks.neighbours(sound)
    figures = similarity.figures(similarity.all_pairs(sound, tracks["mood"]))
    poor = similarity.figures(similarity.all_pairs(sound[::-1].copy(), tracks["mood"].sample(frac=1, random_state=1)))
    found = vector_checks(sound) | checks.texts(tracks, base, near)
    found |= checks.mood_checks({"base": poor, "tuned": figures})
    found |= checks.steadiness(base, tracks["text"].head(8).tolist())
    got = verdicts(found)
    assert set(got.values()) == {"ok", "not measured"} and list(got.values()).count("ok") >= 16, got
    assert checks.suspects(tracks, near).empty


def collapsed(good, rng):
    return unit(good[:1] + 1e-2 * good)


def with_nan(good, rng):
    return np.where(np.arange(N)[:, None] == 3, np.float32(np.nan), good)


def rank_one(good, rng):
    return unit(good[:1] + rng.normal(size=(N, 1)) * good[1:2])


def with_hubs(good, rng):
    """Each its own way from a common centre; those that lie near it are everybody's neighbours."""
    away = np.where(np.arange(N) < 12, 0.5, 3.0)[:, None]
    return unit(np.eye(1, 200) * 2 + away * rng.normal(size=(N, 200)) / 14)


def with_dead_dimension(good, rng):
    return unit(np.where(np.arange(D) == 5, 0, good))


SICK = {
    "mean cosine (anisotropy)": collapsed,
    "uniformity": collapsed,
    "values that are not finite": with_nan,
    "effective rank / most possible": rank_one,
    "hubness (skewness)": with_hubs,
    "constant dimensions": with_dead_dimension,
    "smallest norm": lambda good, rng: good * np.linspace(0.5, 1, N)[:, None],
    "largest norm": lambda good, rng: good * np.linspace(1, 2, N)[:, None],
    "tracks with an identical vector": lambda good, rng: np.concatenate([good[:-20], good[:20]]),
    "tracks with a near-identical vector": lambda good, rng: unit(
        np.concatenate([good[:-40], good[:40] + 1e-3 * rng.normal(size=(40, D))])
    ),
}


@pytest.mark.parametrize("check", SICK)
def test_sick_vectors_fail_their_check(check, sound, rng):
    assert verdicts(vector_checks(sound))[check] == "ok"
    assert verdicts(vector_checks(SICK[check](sound, rng)))[check] in ("look", "broken")


@pytest.mark.parametrize(
    ("check", "change"),
    [
        ("repeated descriptions", lambda d: d.where(d.index > 20, d[0])),
        (
            "near-duplicate descriptions",
            lambda d: "one and the same slow song with soft piano, strings and voice " + d.index.astype(str),
        ),
        ("texts cut at the token limit", lambda d: d.where(d.index > 50, "very long " * 300)),
    ],
)
def test_sick_texts_fail_their_check(check, change, sound, tracks, base):
    near, _ = checks.neighbours(sound)
    description = change(tracks["description"])
    sick = tracks.assign(description=description, text=description)
    assert verdicts(checks.texts(sick, base, near))[check] == "look"


class Characters:
    """An encoder with faults: it counts characters, so that case matters, and on a GPU or in a batch it adds some."""

    def __init__(self, device="cpu", batch=0.0, gpu=0.0):
        self.device, self.batch, self.gpu = SimpleNamespace(type=device), batch, gpu

    def to(self, device):
        self.device = SimpleNamespace(type=device) if isinstance(device, str) else device
        return self

    def encode(self, texts, **_):
        counts = np.array([[text.count(chr(c)) for c in range(32, 127)] for text in texts], dtype=np.float32) + 0.01
        counts[:, 0] += self.batch * (len(texts) > 1) + self.gpu * (self.device.type == "cuda")
        return unit(counts)


def test_an_unsteady_encoder_fails(tracks):
    some = tracks["text"].head(4).tolist()
    assert set(checks.steadiness(Characters(), some).values()) == {0}
    assert (
        verdicts(checks.steadiness(Characters(batch=1), some))["alone or in a batch: difference / tolerance"] == "look"
    )
    assert verdicts(checks.steadiness(Characters("cuda", gpu=1), some))["CPU or GPU: difference / tolerance"] == "look"
    forms = verdicts(checks.worst_forms(checks.forms(Characters(), some)))
    assert forms["white space and case: cosine"] == forms["Unicode forms: cosine"] == "look"


def test_moods_that_are_not_told_apart_and_wrong_moods_fail(sound, tracks, rng):
    near, _ = checks.neighbours(sound)
    shuffled = tracks.assign(mood=rng.permutation(tracks["mood"]))
    good, bad = (similarity.figures(similarity.all_pairs(sound, t["mood"])) for t in (tracks, shuffled))
    got = verdicts(checks.mood_checks({"base": good, "tuned": bad}))
    for check in ("same mood is closer", "same mood is closer, over base", "overlap of moods"):
        assert got[check] == "look"
    moved = tracks.assign(mood=tracks["mood"].where(tracks.index % 10 < 7, tracks["mood"].shift(1, fill_value="mood5")))
    check, wrong = "tracks whose neighbours say another mood", checks.suspects(moved, near)
    mislabelled = set(tracks["id"][tracks.index % 10 >= 7])
    found = set(wrong["id"]) & mislabelled
    assert len(found) > 0.6 * len(mislabelled) and len(found) > 0.7 * len(wrong)
    assert verdicts({check: len(wrong) / N})[check] == "look" and checks.suspects(tracks, near).empty


def test_requests_near_to_nothing_are_found(tracks):
    vectors, asked = np.eye(2, D, dtype=np.float32), np.eye(3, D, dtype=np.float32)
    requests = pd.DataFrame({"text": ["near", "near too", "far"]})
    table = checks.lonely(asked, requests, vectors, tracks.head(2))
    assert table["text"][0] == "far" and table["cosine"].tolist() == [0, 1, 1]
    assert table["nearest_title"][1] == "Song 0"
    assert verdicts(checks.near_to_nothing(table))["requests near to nothing"] == "look"


def test_every_check_was_made_to_fail():
    elsewhere = {
        "repeated descriptions", "near-duplicate descriptions", "texts cut at the token limit",
        "alone or in a batch: difference / tolerance", "CPU or GPU: difference / tolerance",
        "white space and case: cosine",
        "Unicode forms: cosine", "same mood is closer", "same mood is closer, over base", "overlap of moods",
        "tracks whose neighbours say another mood", "requests near to nothing", "trustworthiness of the map",
    }  # fmt: skip
    assert {check.name for check in scorecard.CHECKS} == elsewhere | set(SICK)


def test_a_mislabelled_track_is_the_only_suspect(sound, tracks):
    tracks.loc[5, "mood"], tracks.loc[11, "mood"] = "mood0", ""  # the other is unknown: nobody's suspect
    found = checks.suspects(tracks, checks.neighbours(sound)[0])
    assert found["id"].tolist() == ["t5"] and found["neighbours_say"].tolist() == ["mood5"]


def test_real_text_is_steady_in_case_and_white_space(base):
    moved = checks.forms(base, ["Sad piano for a rainy day"])
    assert moved.drop("full-width letters").min() > 0.999  # the tokenizer of BERT knows no full-width letters


# all against all


def test_blocks_count_every_pair_once(sound, tracks, monkeypatch):
    monkeypatch.setattr(similarity, "BLOCK", 37)
    moods = tracks["mood"].where(tracks.index % 10 != 0, "")
    pairs = similarity.all_pairs(sound, moods)
    known = (moods != "").to_numpy()
    cosine, names = sound[known] @ sound[known].T, moods[known].to_numpy()
    first, second = np.triu_indices(known.sum(), 1)
    same = names[first] == names[second]
    assert pairs.within.sum() == same.sum() and pairs.between.sum() == (~same).sum()
    assert pairs.counts[0, 1].sum() == pairs.tracks[0] * pairs.tracks[1] == pairs.counts[1, 0].sum()
    found = similarity.figures(pairs)
    assert abs(found["mean within a mood"] - cosine[first, second][same].mean()) < 0.005
    assert abs(found["mean"] - cosine[first, second].mean()) < 0.005


def test_overlap_and_closer_know_their_ends():
    near, far = np.zeros(similarity.BINS), np.zeros(similarity.BINS)
    near[190], far[20] = 5, 9
    assert (similarity.overlap(near, far), similarity.closer(near, far)) == (0, 1)
    assert (similarity.overlap(near, near), similarity.closer(near, near)) == (1, 0.5)
    assert similarity.overlap(near, 0 * far) is similarity.closer(near, 0 * far) is similarity.mean(0 * far) is None


def test_a_samples_error_covers_the_whole(rng):
    whole = unit(rng.normal(size=(4000, D)) + np.eye(4, D)[np.arange(4000) % 4])
    moods = pd.Series([f"mood{i % 4}" for i in range(4000)])
    rows = rng.choice(4000, 500, replace=False)
    exact = similarity.figures(similarity.all_pairs(whole, moods))
    some = similarity.figures(similarity.all_pairs(whole[rows], moods.iloc[rows]))
    error = similarity.error(whole[rows], moods.iloc[rows])
    for name, value in exact.items():
        assert 0 < error[name] < 0.1 and abs(some[name] - value) < 4 * error[name], name


def test_all_pairs_of_20000_take_under_a_gibibyte(python):
    code = """
import numpy as np, pandas as pd
from lib import similarity
def peak(): return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 2**20
vectors = np.random.default_rng(0).normal(size=(20_000, 384)).astype(np.float32)
vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
before = peak()
assert similarity.all_pairs(vectors, pd.Series(["a", "b"] * 10_000)).counts.trace().sum() == 2 * 10_000 * 9_999 // 2
print(peak() - before)
"""
    assert float(subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout) < 1


# maps


def test_a_map_keeps_groups_and_is_judged(sound, monkeypatch, rng):
    monkeypatch.setattr(checks, "LIMIT", 300)  # so that half of the tracks are placed among the others
    apart = unit(sound + 4 * np.eye(6, D)[np.arange(N) % 6])
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


def test_the_fewest_tracks_that_are_mapped_are_judged(sound):
    few = sound[: checks.FEWEST]
    assert 0 <= maps.judge(few, few[:, :2], 7)["trustworthiness"] <= 1
    assert checks.can_map({"base": few}) and not checks.can_map({"base": few[:-1]})


def test_maps_are_turned_to_lie_over_each_other(rng):
    points, angle = rng.normal(size=(50, 2)), 2.0
    turned = points @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * [1, -1] + 5
    assert np.allclose(maps.aligned(turned, points), points - points.mean(axis=0), atol=1e-6)


# refusals: the notebook itself, on what it cannot do


@pytest.fixture(scope="module")
def kernel():
    """One for all of these: most of what a kernel takes is to import what the notebook does."""
    manager = KernelManager()
    manager.start_kernel(cwd=paths.NOTEBOOKS)
    yield manager
    manager.shutdown_kernel(now=True)


def debug(kernel, tmp_path, small_run, change, **parameters) -> str:
    """Notebook 04 on some of the small run's tracks; all that it printed."""
    run = tmp_path / "run"
    run.mkdir()
    table = change(pd.read_parquet(small_run / "tracks.parquet")).reset_index(drop=True)
    table.to_parquet(run / "tracks.parquet")
    (run / "requests.parquet").symlink_to(small_run / "requests.parquet")
    (run / "model").symlink_to(small_run / "model")
    indexing.build_index(run, table)
    notebook = load_notebook_node(str(paths.NOTEBOOKS / "04_embedding_debug.ipynb"))
    given = parameterize_notebook(notebook, {"run_dir": str(run), "debug_tracks": 60} | parameters)
    done = NotebookClient(given, km=kernel).execute()
    outputs = [o for cell in done.cells for o in cell.get("outputs", [])]
    return "\n".join(o.get("text") or o.get("data", {}).get("text/markdown", "") for o in outputs)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.head(3), ["A map needs at least 21 tracks; there are 3."]),
        (
            lambda t: t[t["mood"] == "calm"].head(40).assign(mood="calm"),
            ["| same mood is closer | – not measured |  |"],
        ),
        (
            lambda t: t.head(40).assign(text="the same", description="the same"),
            [
                "there are 40, all with one vector",
                "✗ **broken**",
                "- **uniformity**:",
                "- **repeated descriptions**: 100 %, healthy is at most 1 %",
            ],
        ),
    ],
    ids=["three tracks", "one mood", "identical texts"],
)
def test_what_cannot_be_done_is_said(kernel, tmp_path, small_run, change, said):
    told = debug(kernel, tmp_path, small_run, change)
    for words in said:
        assert words in told, told


def test_a_model_that_gives_nan_is_refused(kernel, tmp_path, small_run):
    model = SentenceTransformer(str(small_run / "model"), device="cpu")
    next(model.parameters()).data.fill_(float("nan"))
    model.save(str(tmp_path / "nan"))
    with pytest.raises(CellExecutionError, match="vectors of base are not finite numbers"):
        debug(kernel, tmp_path, small_run, lambda t: t.head(30), base_model=str(tmp_path / "nan"))


# colours


@pytest.mark.parametrize("blindness", ["deuteranomaly", "protanomaly"])
def test_colours_are_told_apart_without_red_or_green(blindness):
    """In CAM02-UCS, where 1 is just visible, as simulated by Machado et al. 2009 at full severity."""
    seen = {"name": "sRGB1+CVD", "cvd_type": blindness, "severity": 100}
    for colors in ((*style.PALETTE, style.BASE), (*style.PALETTE, style.FAINT)):
        simulated = [np.clip(cspace_convert(to_rgb(color), seen, "sRGB1"), 0, 1) for color in colors]
        for (a, one), (b, other) in combinations(zip(colors, simulated, strict=True), 2):
            assert deltaE(one, other, input_space="sRGB1") > 10, (a, b)
