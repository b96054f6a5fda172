"""The word index: BM25 as bm25s computes it, words of all scripts, candidates."""

import bm25s
import numpy as np
import pandas as pd
import pytest

from lib.search.words import FILLERS, Words, split, write_words

TEXTS = [
    "Blue Train — John Coltrane. hard bop",
    "Train in Vain — The Clash",
    "Déjà Vu — Beyoncé",
    "夜に駆ける — YOASOBI",
    "",
]


@pytest.fixture
def index(tmp_path):
    def build(texts) -> Words:
        write_words(tmp_path, pd.Series(texts, dtype="str"))
        return Words(tmp_path)

    return build


def test_words_of_tags_count(tmp_path):
    write_words(tmp_path, pd.Series(["Blue Train", "Vu"]), pd.Series([None, "rainy, piano"]))
    words = Words(tmp_path)
    scores = words.score(words.find(["rainy"]), np.arange(2))
    assert scores[0] == 0 and scores[1] > 0


def test_scores_are_those_of_bm25s(index):
    rng = np.random.default_rng(0)
    words = np.array([f"w{i}" for i in range(200)])
    texts = [" ".join(words[(rng.pareto(1, 12) * 5).astype(int) % 200]) for _ in range(500)]
    reference = bm25s.BM25(k1=1.5, b=0.75, method="lucene")
    reference.index([split(text) for text in texts], show_progress=False)
    ours = index(texts)
    for query in (["w0"], ["w1", "w7", "w150"], ["w3", "nowhere"]):
        expected = reference.get_scores(query)
        found = ours.find([" ".join(query)])
        assert np.allclose(ours.score(found, np.arange(500)), expected, atol=1e-5)
        some = np.array([3, 77, 499])
        assert np.allclose(ours.score(found, some), expected[some], atol=1e-5)
        assert expected[ours.propose(found, 5)].sum() == pytest.approx(np.sort(expected)[-5:].sum(), abs=1e-4)


def test_words_are_read_without_case_accents_and_blanks_between_words(index):
    words, rows = index(TEXTS), np.arange(len(TEXTS))
    for query, row in (("BEYONCE deja vu", 2), ("夜", 3), ("coltrane's bop", 0)):
        assert words.score(words.find([query]), rows).argmax() == row
    assert split("Don’t Stop, l'été 夜に") == ["dont", "stop", "lete", "夜", "に"]


def test_words_of_every_request_count_for_nothing(index):
    words = index([*TEXTS, "Play Some Music"])
    assert len(words.find(["please play some music for me"])) == 0
    assert {"no", "on", "yes"} <= FILLERS and all(isinstance(word, str) for word in FILLERS)
    assert not FILLERS & {"rock", "love", "slow", "dance", "sad", "old", "new", "piano"}


def test_an_empty_catalogue_has_no_words(index):
    words = index([])
    assert len(words.find(["piano"])) == 0 and len(words.propose(words.find(["piano"]), 5)) == 0
