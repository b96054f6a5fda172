"""The forms of a run's encoder: one request at a time, and a catalogue, beside sentence-transformers."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import torch
from measure import Growth, Row, apart, bandwidth, figure, in_turn, multiply_adds, seconds, times
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tqdm import tqdm

from lib.core.encoder import embed, load
from lib.core.processes import threads
from lib.search.forms import open_form
from lib.search.integrity import forms

FULL, QUICK = (200, 512, 9), (20, 64, 1)  # requests, tracks, rounds
GROWN = (1_000, 4_000)  # tracks: some 30 s, beyond which it is a product
BLOCK, WARM = 20, 5  # requests that one way answers in a row, of which the first are not counted
PLAIN = "SentenceTransformer.encode"


def int8_multiply_adds() -> float:
    """Multiply–adds a second of a product of int8 matrices that fit the cache, by ONNX Runtime."""
    shape, types = (512, 512), onnx.TensorProto
    given = onnx.helper.make_tensor_value_info("left", types.UINT8, shape)
    product = onnx.helper.make_tensor_value_info("product", types.INT32, shape)
    right = onnx.numpy_helper.from_array(np.ones(shape, np.int8), "right")
    node = onnx.helper.make_node("MatMulInteger", ["left", "right"], ["product"])
    graph = onnx.helper.make_graph([node], "product", [given], [product], [right])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    run = onnxruntime.InferenceSession(model.SerializeToString(), options).run
    left = {"left": np.ones(shape, np.uint8)}
    run(None, left)
    return 512**3 / statistics.median(seconds(run, None, left) for _ in range(50))


def needed(model, texts: list[str]) -> float:
    """Multiply–adds a text of a transformer's layers, without padding: weights and attention."""
    bert = model[0].model.config
    weights = bert.num_hidden_layers * (4 * bert.hidden_size**2 + 2 * bert.hidden_size * bert.intermediate_size)
    found = model.tokenizer(texts, truncation=True, max_length=model.max_seq_length)["input_ids"]
    lengths = np.array([len(ids) for ids in found])
    return float((lengths * weights + 2 * bert.num_hidden_layers * bert.hidden_size * lengths**2).mean())


def time_forms(run: Path, n_requests: int, n_tracks: int, rounds: int) -> dict:
    """Each form and sentence-transformers on this process's threads. -> seconds and ratios by way

    Args:
        rounds: over the tracks.
    """
    requests, tracks = (pd.read_parquet(run / f"{name}.parquet") for name in ("requests", "tracks"))
    asked = requests.loc[requests["split"] == "test", "text"].drop_duplicates().head(n_requests).tolist()
    plain, texts = load(run / "model").to("cpu"), tracks["text"].head(n_tracks).tolist()
    models = {form: open_form(run, form).to("cpu") for form in forms(run)}
    ways = {PLAIN: partial(plain.encode, normalize_embeddings=True, show_progress_bar=False)}
    ways |= {form: partial(embed, model) for form, model in models.items()}
    singles = {name: [] for name in ways}
    for start in range(0, len(asked), BLOCK):  # in turn, so that all meet the same machine, but not request by request:
        for name, way in ways.items():  # a server has one of them in its cache, whose threads nobody else's wait for
            took = [seconds(way, [text]) for text in asked[start : start + BLOCK]]
            singles[name] += took[WARM:]
    for way in ways.values():
        way(texts[: 2 * BLOCK])  # warms up
    batches = in_turn({name: partial(way, texts) for name, way in ways.items()}, rounds)
    rates = {"float32": multiply_adds(), "int8": int8_multiply_adds(), "bytes": bandwidth()}
    return {
        "threads": torch.get_num_threads(),
        "one": {name: statistics.median(took) for name, took in singles.items()},
        "one ratio": {name: times(took, singles[PLAIN]) for name, took in singles.items()},
        "each": {name: statistics.median(took) / len(texts) for name, took in batches.items()},
        "each ratio": {name: times(took, batches[PLAIN]) for name, took in batches.items()},
        "one limit": {form: limit(models[form], plain, asked, rates) for form in models},
        "each limit": {form: limit(models[form], plain, texts, rates) for form in models},
        "difference": float(np.abs(embed(plain, texts) - ways[PLAIN](texts)).max()),
    }


def limit(model, plain, texts: list[str], rates: dict[str, float]) -> tuple[float, str]:
    """The least seconds that a text could take by its arithmetic, or by reading a vector a word; and which of these."""
    if isinstance(model[0], StaticEmbedding):
        words = np.mean([len(found.ids) for found in model.tokenizer.encode_batch(texts, add_special_tokens=False)])
        return float(words * 4 * model.get_embedding_dimension() / rates["bytes"]), "memory"
    kind = "int8" if getattr(model[0], "int8", False) else "float32"
    return needed(plain, texts) / rates[kind], f"{kind} multiply–adds"


def grow(run: Path, sizes: tuple[int, ...]) -> dict[int, float]:
    """The seconds that embedding takes for some tracks of a run, each said in other words."""
    model, texts = load(run / "model").to("cpu"), pd.read_parquet(run / "tracks.parquet")["text"].tolist()
    texts = [f"{texts[i % len(texts)]} {i}" for i in range(max(sizes))]
    embed(model, texts[:64])  # warms up
    return {n: seconds(embed, model, texts[:n]) for n in sizes}


def measure(run: Path, quick: bool) -> Iterator[Row | Growth]:
    """As many threads as a kernel of the service has, and all of them: a process for each."""
    all_threads = os.cpu_count() or 1
    for n in tqdm((threads(),) if quick else sorted({threads(), all_threads}), "encoders", leave=False):
        found = apart(time_forms, run, *(QUICK if quick else FULL), threads=n)
        yield from (line(found, "one", "one request", form) for form in found["one limit"])
        if quick or n == all_threads:  # which a catalogue is embedded by
            yield from (line(found, "each", "embed tracks", form) for form in found["each limit"])
    yield Row("embed: largest difference of a coordinate", f"{found['difference']:.1e}", PLAIN, bar="1e-4")
    sizes = tuple(n // 20 for n in GROWN) if quick else GROWN
    yield Growth("embed tracks (torch): seconds", "tracks", apart(grow, run, sizes))


def line(found: dict, key: str, what: str, form: str) -> Row:
    """A line of the table."""

    def said(value: float) -> str:
        return f"{figure(1000 * value)} ms" if key == "one" else f"{1 / value:,.0f}/s"

    least, why = found[f"{key} limit"][form]
    of = f"{100 * least / found[key][form]:.2g} % of {why}"
    bar = {("one", "onnx-int8"): "4 ×", ("each", "torch"): "1.2 ×", ("each", "static"): "50 ×"}.get((key, form), "")
    if key == "one" and found["threads"] != threads():
        bar = ""  # it is meant for a kernel
    name = f"{what}, {found['threads']} thread{'s' * (found['threads'] > 1)}: {form}"
    other = f"{said(found[key][PLAIN])}: {PLAIN}"
    return Row(name, said(found[key][form]), other, found[f"{key} ratio"][form], of, bar)
