"""The forms of a run's encoder: they share one space and are never mixed up; measured figures choose one to serve."""

import json
import shutil

import numpy as np
import onnxruntime
import pandas as pd
import pytest
from sentence_transformers import SentenceTransformer
from small_models import shortened, small_model
from transformers import AutoTokenizer

from lib.core import encoder, errors, files, measures
from lib.search import encoders, forms, integrity, recommender, static, tradeoff
from lib.serve import contract

TEXTS = ["sad piano", "a rainy sunday with slow piano, and nobody sings", "windows down, summer road trip " * 30]


@pytest.fixture(scope="module")
def reference(small_run) -> np.ndarray:
    return encoder.embed(encoder.load(small_run / "model"), TEXTS)


def test_onnx_gives_the_same_vectors_and_int8_nearly(small_run, reference):
    assert list(integrity.forms(small_run)) == ["torch", "onnx", "onnx-int8"]
    onnx, int8 = (encoder.embed(encoders.open_form(small_run, f), TEXTS) for f in ("onnx", "onnx-int8"))
    assert np.abs(onnx - reference).max() < 1e-5
    assert 0.95 < (int8 * reference).sum(axis=1).min() < 0.9999


@pytest.mark.parametrize("form", ["onnx", "onnx-int8"])
def test_onnx_encodes_as_the_tokenizer_of_transformers_and_its_graph_do(small_run, form):
    folder, opened = small_run / "encoders" / form, encoders.open_form(small_run, form)
    tokenizer = AutoTokenizer.from_pretrained(small_run / "model")
    graph = onnxruntime.InferenceSession(folder / encoders.GRAPH, providers=["CPUExecutionProvider"])
    options = {"truncation": True, "max_length": files.read_json(folder / encoders.CONFIG)["max_seq_length"]}

    def run(texts, output):
        features = tokenizer(texts, padding=True, return_tensors="np", **options)
        return graph.run([output], {name: features[name] for name in encoders.INPUTS})[0]

    expected = np.concatenate([run([text], "sentence_embedding") for text in TEXTS])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.abs(encoder.embed(opened, TEXTS) - expected).max() < 1e-5
    lengths = [len(ids) for ids in tokenizer(TEXTS, **options)["input_ids"]]
    for n, tokens, (starts, vectors) in zip(lengths, run(TEXTS, "token_embeddings"), opened.tokens(TEXTS), strict=True):
        assert np.abs(vectors - tokens[:n]).max() < 1e-5 and starts[0] == starts[-1] == -1 and starts[1] == 0


def test_onnx_and_pytorch_explain_alike(small_run, reference):
    torch, onnx = (encoders.open_form(small_run, form) for form in ("torch", "onnx"))
    expected, shares = (encoder.contributions(model, TEXTS, reference[0]) for model in (torch, onnx))
    for some, others in zip(expected, shares, strict=True):
        assert some and dict(others) == pytest.approx(dict(some), abs=1e-4)


@pytest.mark.slow
def test_a_prompt_and_a_cut_dimension_survive_the_export(tmp_path):
    model = small_model()
    model.truncate_dim, model.prompts, model.default_prompt_name = 16, {"song": "a song: "}, "song"
    expected = model.encode(TEXTS, normalize_embeddings=True)
    assert expected.shape == (3, 16) and np.abs(encoder.embed(model, TEXTS) - expected).max() < 1e-5
    for form in (forms.to_onnx(model, tmp_path / "onnx"), encoders.OnnxForm(tmp_path / "onnx", 1)):
        assert np.abs(encoder.embed(form, TEXTS) - expected).max() < 1e-5
    assert encoder.contributions(model, TEXTS, expected[0])[0]


def test_an_int8_vector_does_not_depend_on_the_other_queries(small_run):
    """The rounding of int8 depends on the texts of a batch, so each text is encoded alone."""
    songs = recommender.open_run(small_run)
    songs.model = encoders.open_form(small_run, "onnx-int8")
    alone = songs.query(songs.read("sad piano")).vector
    together = {"sad piano": songs.encode(["sad piano", *TEXTS])[0]}
    assert np.array_equal(songs.query(songs.read("sad piano"), vectors=together).vector, alone)


def test_damaged_forms_and_those_of_another_model_are_refused(small_run, tmp_path):
    run = shutil.copytree(small_run, tmp_path / "run")
    graph = run / "encoders/onnx-int8" / encoders.GRAPH
    graph.write_bytes(graph.read_bytes()[:-9])
    with pytest.raises(errors.WorkbookError, match="onnx-int8 is damaged or lost"):
        encoders.open_form(run, "onnx-int8")
    with pytest.raises(errors.WorkbookError, match="has no encoder 'static', only torch, onnx, onnx-int8"):
        encoders.open_form(run, "static")
    (run / "model/README.md").write_text("another model")
    with pytest.raises(errors.WorkbookError, match="made with another model"):
        encoders.open_form(run, "onnx")


def test_a_run_is_checked_before_it_is_published(small_run, tmp_path):
    run = shutil.copytree(small_run, tmp_path / "run")
    assert integrity.check_run(run) == integrity.forms(small_run)["torch"]
    vectors = run / "index" / "vectors.npy"
    vectors.write_bytes(vectors.read_bytes()[:-9])
    with pytest.raises(errors.WorkbookError, match=r"is damaged: vectors\.npy of index/ changed"):
        integrity.check_run(run)


@pytest.mark.parametrize(
    ("faster", "worse", "chosen"),
    [(3, 0.001, "onnx-int8"), (1.1, 0, "onnx"), (3, 0.05, "onnx"), (3, -0.05, "onnx-int8")],
)
def test_int8_serves_if_it_is_faster_and_as_good(faster, worse, chosen):
    rows = {"torch": [8, 0.4], "onnx": [4, 0.4], "onnx-int8": [4 / faster, 0.4 - worse]}
    compared = pd.DataFrame(rows, index=["ms for one", measures.MAIN]).T
    assert tradeoff.choose("onnx", compared) == chosen and tradeoff.choose("torch", compared) == "torch"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("fast", 0, "auto"), "encoder is 'fast', but must be one of torch, onnx, static"),
        (("onnx", 0, "flat"), "index is 'flat', but must be one of auto, exact, lists"),
        (("static", 0, "auto"), "needs texts to learn from"),
    ],
)
def test_impossible_parameters_are_refused_before_the_training(values, message):
    with pytest.raises(errors.WorkbookError, match=message):
        tradeoff.check(*values)
    tradeoff.check("static", 10, "lists")


def test_a_static_encoder_learns_to_rank_as_its_teacher(small_run, tmp_path, monkeypatch):
    monkeypatch.setattr(static, "WORDS", 500)
    texts = pd.read_parquet(small_run / "requests.parquet")["text"].tolist()
    teacher = encoders.open_form(small_run, "onnx-int8")
    teacher.tokenizer = shortened(teacher.tokenizer)  # it encodes each of its tokens
    static.distil(teacher, texts[:200], 1500, 7).save(str(tmp_path / "static"))
    pupil, theirs = (
        encoders.StaticForm(tmp_path / "static"),
        SentenceTransformer(str(tmp_path / "static"), device="cpu"),
    )
    expected = theirs.encode(["", *TEXTS], normalize_embeddings=True)
    assert np.abs(encoder.embed(pupil, ["", *TEXTS]) - expected).max() < 1e-5 and not expected[0].any()
    songs = recommender.open_run(small_run)
    for some, least in ((texts[:200], 0.55), (texts[200:], 0.46)):  # 0.46 and 0.41 before training
        scores = [encoder.embed(model, some) @ songs.vectors.T for model in (pupil, teacher)]
        assert np.mean([np.corrcoef(*pair)[0, 1] for pair in zip(*scores, strict=True)]) > least
    songs.model = pupil
    why = songs.explain(songs.query(songs.read("a sad song")), list(songs.recommend("a sad song", 2)["id"]))
    assert all(len(w["words"]) == 3 and all(0 <= word["share"] <= 1 for word in w["words"][:1]) for w in why)
    empty = contract.recommend(songs, json.dumps({"body": {"text": "\u200b"}}))
    assert empty.status == 400 and "says nothing" in empty.body
