"""The evaluation: measures, comparisons, calibration and benchmarks, also of a collapsed encoder."""

import zlib

import numpy as np
import pandas as pd
import pytest
from nbconvert.filters import markdown2html

from lib.core import base_models, encoder, errors, measures
from lib.finetune import evaluator
from lib.performance import benchmarks, calibration, evaluation, findings, pictures
from lib.performance.baselines import bounds, fuse, rank_by_words, word_scores
from lib.tracks import listener_requests, synthetic


@pytest.fixture(scope="module")
def base():
    """MiniLM, which encodes a text once for all tests: they have the same tracks."""
    model, embed, known = encoder.load(base_models.find("all-MiniLM-L6-v2")), encoder.embed, {}

    def once(of, texts, *options) -> np.ndarray:
        if of is not model:
            return embed(of, texts, *options)
        new = [text for text in dict.fromkeys(texts) if text not in known]
        known.update(zip(new, embed(of, new), strict=True))
        return np.stack([known[text] for text in texts])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder, "embed", once)
        yield model


class Collapsed:
    """An encoder that puts all texts near one point, with a little noise for each."""

    device = "cpu"

    def get_embedding_dimension(self):
        return 384

    def encode(self, texts, **_):
        noise = np.stack([np.random.default_rng(zlib.crc32(text.encode())).normal(size=384) for text in texts])
        vectors = np.eye(384)[0] + 1e-3 * noise
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def requests_and_tracks(n: int = 40):
    table = synthetic.generate(300, seed=2).assign(split="test")
    return listener_requests.generate(table, n, 2).query("split == 'test'").reset_index(drop=True), table


def scored(model, requests, table):
    encoded = encoder.encode(model, table, requests)
    return measures.score_ranking(measures.rank_by_similarity(encoded, table, requests), requests)


def test_measures_of_a_perfect_and_a_useless_ranking():
    requests, table = requests_and_tracks()
    grades = {r.request_id: dict(zip(r.track_ids, map(float, r.grades), strict=True)) for r in requests.itertuples()}
    perfect = measures.score_ranking(grades, requests)
    assert (perfect["nDCG@10"] > 0.999).all() and (perfect["MRR"] == 1).all()
    none = {r: {i: 1.0 for i in table["id"] if i not in answers} for r, answers in grades.items()}
    assert measures.score_ranking(none, requests).to_numpy().max() == 0


@pytest.mark.slow
def test_a_collapsed_encoder_passes_only_the_single_query_check(base):
    """Show why the single-query check must not stand alone."""
    requests, table = requests_and_tracks(200)
    collapsed = Collapsed()
    strong = calibration.single_query(collapsed, table)["bands"]["strong"]
    assert strong == len(table[table["mood"] == "energetic"])
    honest, bad = scored(base, requests, table), scored(collapsed, requests, table)
    change = evaluation.compare(honest, bad)
    assert change["nDCG@10"]["high"] < 0
    metrics = {"requests": len(requests), "tracks": len(table), "difference": change, "encoders": {}}
    for name, scores in (("base", honest), ("tuned", bad), ("bm25", honest)):
        metrics["encoders"][name] = {"retrieval": evaluation.intervals(scores)}
    assert findings.verdict(metrics).startswith("Tuning did harm")
    assert findings.verdict(metrics | {"tracks": 12}).startswith("Too few held-out tracks (12)")
    spaces = [calibration.spread(encoder.encode(m, table, requests), table, requests) for m in (base, collapsed)]
    assert [space["verdict"] for space in spaces] == ["spread", "collapsed"]
    assert spaces[1]["uniformity"] > spaces[0]["uniformity"] and spaces[1]["mean_cosine"] > 0.99
    ranking = measures.rank_by_similarity(encoder.encode(collapsed, table, requests), table, requests)
    shown = calibration.shown_tracks(ranking, requests)
    assert calibration.precision_by_band(shown)["strong"]["precision"] < 0.2
    assert calibration.thresholds(shown)["70%"] is None


@pytest.mark.slow
def test_the_single_query_check_needs_energetic_tracks(base):
    _, table = requests_and_tracks()
    calm = table[table["mood"] == "calm"]
    check = calibration.single_query(base, table)
    assert sum(check["bands"].values()) == check["tracks"] == len(check["scores"])
    assert calibration.single_query(base, calm) is None


def test_the_headline_names_losses_and_missing_benchmarks():
    def one(figure: float) -> dict:
        space = {"verdict": "crowded", "uniformity": -1.0}
        figures = {"retrieval": {measures.MAIN: {"mean": figure}}, "space": space}
        return figures | {"single_query": None, "thresholds": {"70%": None}}

    encoders = {"base": one(0.2), "tuned": one(0.4)}
    few = "Moods are not measured: this needs two moods."
    metrics = {"verdict": "Tuning helped", "by_mood": {}, "moods": few, "gaps": "", "encoders": encoders}
    text = findings.headline(metrics)
    assert f"- {few}" in text and "hardest" not in text
    assert "- No track has a mood." in findings.headline(metrics | {"gaps": "No track has a mood."})
    assert "**tuned** (0.400)" in text and "crowded" in text and "MusicCaps was not available" in text
    encoders["base"]["musiccaps"] = {"mood": 0.5, "tags → caption": 0.5}
    encoders["tuned"]["musiccaps"] = {"mood": 0.3, "tags → caption": 0.6}
    metrics["by_mood"] = {"<script>": {"base": 0.1, "tuned": 0.2, "requests": 9}}
    text = findings.headline(metrics)
    assert "mood 0.500 to 0.300 (**worse**), tags → caption 0.500 to 0.600." in text and "not available" not in text
    assert "hardest: &lt;script&gt;" in text
    for mood in ("[x](javascript:alert(1))", r"\[x](javascript:alert(1))", "![x](javascript:alert(1))"):
        metrics["by_mood"] = {mood: {"base": 0.1, "tuned": 0.2, "requests": 9}}
        assert "href" not in (page := markdown2html(findings.headline(metrics))) and "src" not in page
        assert "(javascript:alert(1)) (mAP" in page
    assert "Single-query check" not in text


def test_chance_and_the_best_possible_values_stand_beside_each_measure():
    requests, table = requests_and_tracks(200)
    rankings = bounds(table, requests)
    values = {name: measures.score_ranking(ranking, requests).mean().to_dict() for name, ranking in rankings.items()}
    assert list(values) == ["random", "popularity", "best possible"]
    assert values["best possible"]["nDCG@10"] > 0.999 > 0.3 > values["random"]["nDCG@10"]
    assert values["random"]["recall@10"] < values["best possible"]["recall@10"] < 1  # ten places do not hold them all
    assert list(bounds(table.assign(popularity=np.nan), requests)) == ["random", "best possible"]
    encoders = {name: {"retrieval": {m: {"mean": 0.2} for m in measures.MEASURES}} for name in ("base", "tuned")}
    explained = findings.explained({"bounds": values, "encoders": encoders})
    assert list(explained) == ["random", "popularity", "base", "tuned", "best possible", "meaning"]
    assert list(explained.index) == list(measures.MEASURES) == list(findings.MEANINGS) and explained.notna().all(
        axis=None
    )


def test_the_verdict_counts_songs_without_a_term():
    requests, table = requests_and_tracks(600)
    rankings = bounds(table, requests)
    right = evaluation.right_moods({"base": rankings["random"], "tuned": rankings["best possible"]}, requests, table)
    every = right.loc["all"]
    assert (
        every["requests"] == (requests["mood"] != "").sum() and right.drop("all")["requests"].min() >= measures.ENOUGH
    )
    assert abs(every["base"] - every["chance"]) < 0.5 < 5 < every["tuned"] <= every["possible"] <= 10
    space = {"verdict": "spread", "uniformity": -3.0}
    one = {
        "retrieval": {measures.MAIN: {"mean": 0.2}},
        "space": space,
        "single_query": None,
        "thresholds": {"70%": None},
    }
    metrics = {"verdict": "Tuning helped.", "by_mood": {}, "moods": "Few.", "gaps": "", "encoders": {}}
    metrics["encoders"] = {"base": one, "tuned": one}
    text = findings.headline(metrics | {"right": right.to_dict("index")})
    first, worst = text.splitlines()[0], right.drop("all")["tuned"].sort_values().index[:2]
    assert first.startswith(f"**Of ten songs that the encoder alone finds, {every['tuned']:.1f} have the mood that was")
    assert (
        f"it fails most at {worst[0]} (" in first and f" and {worst[1]} (" in first and "\n\nTuning helped.\n" in text
    )
    assert evaluation.right_moods(rankings, requests.assign(mood=""), table).empty
    kinds = {"all": 0.9, "era": 0.8, "genre": 1.0, "negation": 0.7, "title": 0.1}
    served = {kind: {"served": share, "tuned": 0.4, "chance": 0.1} for kind, share in kinds.items()}
    text = findings.headline(metrics | {"right": {}, "served": served})
    assert "by chance 10 %. The fewest fit for negation (70 %) and era (80 %).\n" in text
    few = requests.assign(mood=["calm"] * 9 + [""] * (len(requests) - 9))
    of_few = evaluation.right_moods(dict.fromkeys(("base", "tuned"), rankings["random"]), few, table)
    text = findings.headline(metrics | {"right": of_few.to_dict("index")})
    assert "by chance" in text.splitlines()[0] and "fails" not in text
    assert findings.headline(metrics | {"right": {}}).startswith("**Tuning helped.**")


def test_the_interval_contains_the_mean_and_narrows():
    values = np.random.default_rng(0).random(400)
    wide, narrow = evaluation.interval(values[:20]), evaluation.interval(values)
    assert wide["low"] < wide["mean"] < wide["high"] and narrow["high"] - narrow["low"] < wide["high"] - wide["low"]
    assert evaluation.interval(np.ones(5)) == {"mean": 1.0, "low": 1.0, "high": 1.0}


def test_bm25_finds_a_track_by_its_name():
    requests, table = requests_and_tracks(5)
    requests["text"] = " ".join(table.loc[7, ["title", "artist"]])
    ranking = rank_by_words(table, requests)
    assert next(iter(ranking[requests["request_id"][0]])) == table["id"].iloc[7]


def test_bm25_returns_only_tracks_that_share_a_word():
    requests, table = requests_and_tracks(5)
    requests["text"] = ["zzzz", *requests["text"][1:]]
    ranking = rank_by_words(table, requests)
    assert ranking[requests["request_id"][0]] == {}
    assert all(min(scores.values()) > 0 for scores in list(ranking.values())[1:])
    assert measures.score_ranking(ranking, requests).iloc[0].eq(0).all()
    fused = fuse(ranking, {request: {"t": 1.0} for request in ranking})
    assert list(fused[requests["request_id"][0]]) == ["t"]


def test_fusion_prefers_tracks_that_both_rankings_have():
    first = {"q": {"a": 3.0, "b": 2.0, "c": 1.0}}
    second = {"q": {"b": 9.0, "d": 8.0, "a": 7.0}}
    assert list(fuse(first, second)["q"]) == ["b", "a", "d", "c"]


@pytest.mark.slow
def test_the_evaluator_of_training_agrees_with_the_notebook(base):
    requests, table = requests_and_tracks(60)
    metrics = evaluator.RequestEvaluator(table, requests)(base)
    assert metrics == pytest.approx(scored(base, requests, table).mean().to_dict())
    few = evaluator.RequestEvaluator(table, requests, most=50)
    assert len(few.tracks) == 50 and 0 < len(few.requests) <= 50


@pytest.mark.slow
def test_tables_of_moods_and_worst_answers(base):
    requests, table = requests_and_tracks(600)
    ranking = measures.rank_by_similarity(encoder.encode(base, table, requests), table, requests)
    by_mood = evaluation.by_mood({"base": measures.score_ranking(ranking, requests)}, requests)
    assert by_mood["base"].between(0, 1).all() and by_mood["requests"].min() >= measures.ENOUGH
    assert by_mood["requests"].sum() == requests["mood"].isin(measures.enough(requests["mood"])).sum()
    confusion = evaluation.confusion(ranking, requests, table)
    assert np.allclose(confusion.sum(axis=1), 1) and set(confusion.index) <= set(requests["mood"])
    unsure = table.assign(mood=table["mood"].where(table.index % 3 != 0, ""))
    assert list(evaluation.confusion(ranking, requests, unsure)).count("unknown") == 1
    worst = evaluation.worst(measures.score_ranking(ranking, requests), ranking, requests, table)
    assert worst["ndcg"].is_monotonic_increasing and (worst["expected_track"] != "").all()


def test_moods_with_few_requests_are_left_out():
    moods = pd.Series(["calm"] * 9 + ["sad"] * 8 + ["eerie"] * 2 + [""] * 50)
    assert measures.enough(moods) == ["calm", "sad"]
    assert measures.too_few(moods, "requests") == "Left out, with fewer than 8 requests each: eerie (2)."
    assert measures.too_few(moods[moods != "eerie"], "requests") == ""
    bare = moods[moods != "sad"]
    assert measures.enough(bare) == [] and "11 of 61 requests have a mood, most often calm (9), eerie (2)." in (
        measures.too_few(bare, "requests")
    )


@pytest.mark.parametrize("moods", [["calm"] * 4 + ["eerie"] * 2, []])
def test_a_catalogue_without_moods_has_no_figures_on_moods(moods):
    """Moods of a handful of requests, and no mood at all, give no picture and no claim."""
    requests, table = requests_and_tracks(200)
    requests = requests.assign(mood=[*moods, *[""] * (len(requests) - len(moods))])
    table = table.assign(mood="", genre="")
    ranking = rank_by_words(table, requests)
    scores = {name: measures.score_ranking(ranking, requests) for name in ("base", "tuned")}
    by_mood, confusion = evaluation.by_mood(scores, requests), evaluation.confusion(ranking, requests, table)
    assert by_mood.empty and confusion.empty
    assert pictures.by_mood(by_mood) is pictures.confusion(confusion) is None
    assert calibration.single_query(None, table) is None and pictures.single_query({"base": None}) is None
    ranking = {request: ranking[request] or {table["id"][0]: 1.0} for request in ranking}
    assert "[" not in evaluation.answers(scores["base"], ranking, requests, table.assign(title="A"))["songs"][0]
    assert "genre" in evaluation.worst(scores["base"], ranking, requests, table)
    worst = evaluation.worst(scores["base"], ranking, requests.assign(mood="", genre=""), table)
    assert list(worst) == ["text", "first_track", "expected_track", "ndcg"]


def test_thresholds_reach_their_precision():
    rng = np.random.default_rng(0)
    score = rng.random(4000)
    shown = pd.DataFrame({"score": score, "relevant": rng.random(4000) < score})
    thresholds = calibration.thresholds(shown)
    for name, precision in (("90%", 0.9), ("70%", 0.7), ("50%", 0.5)):
        assert shown.loc[shown["score"] >= thresholds[name], "relevant"].mean() >= precision - 1e-9
    assert thresholds["90%"] > thresholds["70%"] > thresholds["50%"]
    assert calibration.thresholds(shown.assign(relevant=False)) == {"90%": None, "70%": None, "50%": None}
    bands = calibration.precision_by_band(shown)
    assert sum(b["answers"] for b in bands.values()) == 4000 and 0.8 < bands["strong"]["precision"] < 0.9
    assert calibration.precision_by_band(shown.head(5))["strong"]["precision"] is None


# benchmarks


def test_the_users_benchmark_is_read_and_its_mistakes_are_named(tmp_path):
    table, path = synthetic.generate(100, seed=1), tmp_path / "mine.csv"
    path.write_text(f'query,track_ids\nrainy sunday,"{table["id"][3]}, {table["id"][7]}"\nloud,{table["id"][1]}\n')
    requests = benchmarks.own(str(path), table)
    assert requests["track_ids"].tolist() == [[table["id"][3], table["id"][7]], [table["id"][1]]]
    assert len(measures.score_ranking(rank_by_words(table, requests), requests)) == 2
    for text, message in (
        ("query,track_ids\nx,nope\n", "line 2: the catalogue has no track nope"),
        ("query,track_ids\n ,t0000001\n", "line 2: an empty query"),
        ("text,ids\nx,y\n", "has no column query or track_ids; it has text, ids"),
    ):
        path.write_text(text)
        with pytest.raises(errors.WorkbookError, match=message):
            benchmarks.own(str(path), table)
    with pytest.raises(errors.WorkbookError, match="there is no file"):
        benchmarks.own(str(tmp_path / "none.csv"), table)


@pytest.mark.slow
def test_musiccaps_is_scored_if_it_is_available(base, shared):
    assert benchmarks.musiccaps("") is None
    with pytest.raises(errors.WorkbookError, match="there is no file"):
        benchmarks.musiccaps("nowhere.csv")
    clips = benchmarks.musiccaps(str(shared / "data" / "musiccaps-dev.csv"))
    assert len(clips) == benchmarks.ROWS
    words = benchmarks.score_musiccaps(word_scores, clips.head(300))
    assert 0.7 < words["caption → tags"] < 0.95 and words["mood"] < 0.2
    scores = benchmarks.score_musiccaps(benchmarks.cosine(base), clips.head(300))
    assert 0.5 < scores["caption → tags"] < 0.9 and 0.4 < scores["tags → caption"] < 0.9 and 0.02 < scores["mood"] < 0.3
