"""Fixtures of the debugger's tests."""

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from spaces import healthy_space, tracks_of_six_moods

from lib.core import base_models, encoder


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def healthy(rng) -> np.ndarray:
    return healthy_space(rng)


@pytest.fixture
def tracks():
    return tracks_of_six_moods()


@pytest.fixture(scope="module")
def base() -> SentenceTransformer:
    return encoder.load(base_models.find("all-MiniLM-L6-v2"))
