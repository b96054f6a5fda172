"""Benchmarks of the encoder's forms: one request, and a catalogue, beside sentence-transformers."""

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
from tqdm import tqdm

from lib.core.encoder import embed, load
from lib.core.processes import threads
from lib.search.encoders import OnnxForm, StaticForm, open_form
from lib.search.integrity import forms

FULL, QUICK = (200, 512, 9), (20, 64, 1)  # requests, tracks, rounds
GROWN = (1_000, 4_000)  # tracks, about 30 s; beyond, the time is proportional
BLOCK, WARM = 20, 5  # requests in a row for one way; the first ones are not counted
PLAIN = "SentenceTransformer.encode"


def int8_multiply_adds() -> float:
    """Return the multiply–adds a second of ONNX Runtime's product of int8 matrices that fit the cache."""
    shape, types = (512, 512), onnx.TensorProto
    source = onnx.helper.make_tensor_value_info("left", types.UINT8, shape)
    product = onnx.helper.make_tensor_value_info("product", types.INT32, shape)
    right = onnx.numpy_helper.from_array(np.ones(shape, np.int8), "right")
    node = onnx.helper.make_node("MatMulInteger", ["left", "right"], ["product"])
    graph = onnx.helper.make_graph([node], "product", [source], [product], [right])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    run = onnxruntime.InferenceSession(model.SerializeToString(), options).run
    left = {"left": np.ones(shape, np.uint8)}
    run(None, left)
    return 512**3 / statistics.median(seconds(run, None, left) for _ in range(50))


def needed(model, texts: list[str]) -> float:
    """Return the multiply–adds a text of a transformer's layers without padding: weights and attention."""
    bert = model[0].model.config
    weights = bert.num_hidden_layers * (4 * bert.hidden_size**2 + 2 * bert.hidden_size * bert.intermediate_size)
    tokens = model.tokenizer(texts, truncation=True, max_length=model.max_seq_length)["input_ids"]
    lengths = np.array([len(ids) for ids in tokens])
    return float((lengths * weights + 2 * bert.num_hidden_layers * bert.hidden_size * lengths**2).mean())


def time_forms(run: Path, n_requests: int, n_tracks: int, rounds: int) -> dict:
    """Time each form and sentence-transformers on this process's threads. -> seconds and ratios of each way.

    Args:
        rounds: passes over the tracks.
    """
    requests, tracks = (pd.read_parquet(run / f"{name}.parquet") for name in ("requests", "tracks"))
    queries = requests.loc[requests["split"] == "test", "text"].drop_duplicates().head(n_requests).tolist()
    plain, texts = load(run / "model").to("cpu"), tracks["text"].head(n_tracks).tolist()
    models = {form: open_form(run, form, torch.get_num_threads()).to("cpu") for form in forms(run)}
    ways = {PLAIN: partial(plain.encode, normalize_embeddings=True, show_progress_bar=False)}
    ways |= {form: partial(embed, model) for form, model in models.items()}
    singles = {name: [] for name in ways}
    # In turn, so that the machine's load is the same for all; in blocks, since a server has one way in its cache.
    for start in range(0, len(queries), BLOCK):
        for name, way in ways.items():
            singles[name] += [seconds(way, [text]) for text in queries[start : start + BLOCK]][WARM:]
    for way in ways.values():
        way(texts[: 2 * BLOCK])  # warms up
    batches = in_turn({name: partial(way, texts) for name, way in ways.items()}, rounds)
    rates = {"float32": multiply_adds(), "int8": int8_multiply_adds(), "bytes": bandwidth()}
    return {
        "threads": torch.get_num_threads(),
        "one": {name: statistics.median(spent) for name, spent in singles.items()},
        "one ratio": {name: times(spent, singles[PLAIN]) for name, spent in singles.items()},
        "each": {name: statistics.median(spent) / len(texts) for name, spent in batches.items()},
        "each ratio": {name: times(spent, batches[PLAIN]) for name, spent in batches.items()},
        "one limit": {form: limit(models[form], plain, queries, rates) for form in models},
        "each limit": {form: limit(models[form], plain, texts, rates) for form in models},
        "difference": float(np.abs(embed(plain, texts) - ways[PLAIN](texts)).max()),
    }


def limit(model, plain, texts: list[str], rates: dict[str, float]) -> tuple[float, str]:
    """Return the least seconds for a text, and their cause: arithmetic, or reading a vector a word."""
    if isinstance(model, StaticForm):
        words = np.mean([len(tokens.ids) for tokens in model.tokenizer.encode_batch(texts, add_special_tokens=False)])
        return float(words * 4 * model.get_embedding_dimension() / rates["bytes"]), "memory"
    kind = "int8" if isinstance(model, OnnxForm) and model.int8 else "float32"
    return needed(plain, texts) / rates[kind], f"{kind} multiply–adds"


def grow(run: Path, sizes: tuple[int, ...]) -> dict[int, float]:
    """Return the seconds to embed tracks of a run, all with different texts."""
    model, texts = load(run / "model").to("cpu"), pd.read_parquet(run / "tracks.parquet")["text"].tolist()
    texts = [f"{texts[i % len(texts)]} {i}" for i in range(max(sizes))]
    embed(model, texts[:64])  # warms up
    return {n: seconds(embed, model, texts[:n]) for n in sizes}


def measure(run: Path, quick: bool) -> Iterator[Row | Growth]:
    """Measure on the threads of one kernel of the service, and on all threads, each in a process of its own."""
    all_threads = os.cpu_count() or 1
    for n in tqdm((threads(),) if quick else sorted({threads(), all_threads}), "encoders", leave=False):
        result = apart(time_forms, run, *(QUICK if quick else FULL), threads=n)
        yield from (row(result, "one", "one request", form) for form in result["one limit"])
        if quick or n == all_threads:  # a catalogue is embedded on all threads
            yield from (row(result, "each", "embed tracks", form) for form in result["each limit"])
    yield Row("embed: largest difference of a coordinate", f"{result['difference']:.1e}", PLAIN, bar="1e-4")
    sizes = tuple(n // 20 for n in GROWN) if quick else GROWN
    yield Growth("embed tracks (torch): seconds", "tracks", apart(grow, run, sizes))


def row(result: dict, key: str, task: str, form: str) -> Row:
    """Return a row of the table."""

    def text(value: float) -> str:
        return f"{figure(1000 * value)} ms" if key == "one" else f"{1 / value:,.0f}/s"

    least, cause = result[f"{key} limit"][form]
    share = f"{100 * least / result[key][form]:.2g} % of {cause}"
    bar = {("one", "onnx-int8"): "4 ×", ("each", "torch"): "1.2 ×", ("each", "static"): "50 ×"}.get((key, form), "")
    if key == "one" and result["threads"] != threads():
        bar = ""  # the target is that of a kernel
    name = f"{task}, {result['threads']} thread{'s' * (result['threads'] > 1)}: {form}"
    other = f"{text(result[key][PLAIN])}: {PLAIN}"
    return Row(name, text(result[key][form]), other, result[f"{key} ratio"][form], share, bar)
