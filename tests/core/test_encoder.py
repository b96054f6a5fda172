"""Base models: find and check them. The encoder: embed texts as unit vectors, and explain a similarity."""

import shutil

import numpy as np
import pytest

from lib.core import base_models, encoder, errors


@pytest.fixture(scope="module")
def base():
    return encoder.load(base_models.find("all-MiniLM-L6-v2"))


def test_an_unknown_model_is_an_error_that_lists_the_places():
    with pytest.raises(errors.WorkbookError) as error:
        base_models.find("all-MiniLM-L99")
    for place in ("the folder", "the Hugging Face hub", "the package index", "all-MiniLM-L6-v2"):
        assert place in str(error.value)


def test_weights_that_differ_from_upstream_are_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"something else")
    with pytest.raises(errors.WorkbookError, match="is not the upstream all-MiniLM-L6-v2"):
        base_models.check(tmp_path, "all-MiniLM-L6-v2")


@pytest.mark.parametrize("file", ["modules.json", "tokenizer.json", "1_Pooling/config.json"])
def test_other_files_that_differ_from_upstream_are_refused(tmp_path, file):
    model = shutil.copytree(base_models.find("all-MiniLM-L6-v2"), tmp_path / "model")
    base_models.check(model, "all-MiniLM-L6-v2")
    (model / file).write_text((model / file).read_text() + "\n")
    with pytest.raises(errors.WorkbookError, match=f"{file} is not the upstream all-MiniLM-L6-v2"):
        base_models.check(model, "all-MiniLM-L6-v2")


def test_a_folder_and_a_run_are_models(small_run):
    assert base_models.find(str(small_run / "model")) == base_models.find(str(small_run)) == small_run / "model"


def test_vectors_are_units_and_do_not_depend_on_the_batch(base):
    texts = ["sad piano", "a very long description of a loud and happy song with drums", "sad piano"]
    vectors = encoder.embed(base, texts)
    assert vectors.shape == (3, 384) and vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.array_equal(vectors[0], vectors[2])
    assert np.allclose(vectors[0], encoder.embed(base, texts[:1])[0], atol=1e-5)
    assert encoder.embed(base, []).shape == (0, 384)


def test_words_add_up_to_the_similarity(base):
    text, query = "Acoustic ballad. Rainy, slow guitar for a night drive", encoder.embed(base, ["a rainy night"])[0]
    shares = dict(encoder.contributions(base, [text], query)[0])
    assert {"rainy", "night"} & set(list(shares)[:2]) and "for" not in shares and "ballad" in shares
    assert 0.4 < sum(shares.values()) < 1.0  # stop words, punctuation and the encoder's own marks have the rest
    mean = base.encode(text, output_value="token_embeddings").float().cpu().numpy().mean(axis=0)
    cosine = encoder.embed(base, [text])[0] @ query
    assert abs(mean @ query / np.linalg.norm(mean) - cosine) < 1e-5  # so the tokens' parts add up to the score
