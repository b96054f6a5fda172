"""Speed beside quality: every form of a run's encoder, and which of them serves."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from lib.core.encoder import embed, speed
from lib.core.errors import WorkbookError
from lib.core.measures import MAIN, Encoded, rank_by_similarity, score_ranking
from lib.core.processes import threads
from lib.search.forms import open_form
from lib.search.index import KINDS
from lib.search.integrity import forms

# What each value of the parameter `encoder` chooses from: the reference form first.
CHOICES = {"torch": ["torch"], "onnx": ["onnx", "onnx-int8"], "static": ["static"]}
# A quicker form is chosen where it is at least this much quicker for one request and costs at most this much nDCG@10.
QUICKER, COST = 1.2, 0.01
BLOCKS, BLOCK, WARM = 5, 20, 5  # requests that a form encodes in a row, of which the first are not counted


def check(encoder: str, static_texts: int, index: str) -> None:
    """Refuse parameters before the training that they would waste.

    Raises:
        WorkbookError: there is no such encoder or index, or a static one that learns from nothing.
    """
    for name, value, known in (("encoder", encoder, CHOICES), ("index", index, KINDS)):
        if value not in known:
            raise WorkbookError(f"{name} is {value!r}, but must be one of {', '.join(known)}.")
    if encoder == "static" and not static_texts:
        raise WorkbookError("encoder is static, which needs texts to learn from: static_texts=100000, say.")


Similarity = Callable[[list[str], list[str]], np.ndarray]  # queries, documents -> (queries, documents)


def compare(
    run: Path, tracks: pd.DataFrame, requests: pd.DataFrame, outside: Callable[[Similarity], dict] | None = None
) -> pd.DataFrame:
    """What each form of a run's encoder costs on the CPU, and what it is worth.

    The tracks' vectors are the tuned transformer's for all forms, as they are in the index.

    Returns:
        Index form; columns nDCG@10; same top 10, the share of the reference's first ten tracks that are found; cosine,
        the mean to the reference's vector of the request; ms for one, the median of requests encoded alone, on as many
        threads as a kernel of the service has; texts per second, of many requests on all threads; MB on disk; and the
        measures of `outside`, a benchmark that scores a similarity, where it is given.
    """
    rows, alone = {}, _milliseconds(run, requests["text"].drop_duplicates().head(BLOCKS * BLOCK).tolist())
    for form in forms(run):
        model = open_form(run, form).to("cpu")
        asked = embed(model, requests["text"])
        if form == "torch":
            reference, space, known = asked, embed(model, tracks["text"]), cache(partial(embed, model))
        ranking = rank_by_similarity(Encoded(space, asked), tracks, requests)
        first = [set(list(found)[:10]) for found in ranking.values()]
        if form == "torch":
            expected = first
        folder = run / ("model" if form == "torch" else f"encoders/{form}")
        rows[form] = {
            MAIN: score_ranking(ranking, requests)[MAIN].mean(),
            "same top 10": np.mean([len(a & b) / len(b) for a, b in zip(first, expected, strict=True)]),
            "cosine": (asked * reference).sum(axis=1).mean(),
            "ms for one": alone[form],
            "texts per second": speed(model, requests["text"])["cpu"]["texts_per_second"],
            "MB": sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6,
        }
        if outside:
            rows[form] |= outside(partial(_similarity, model, known))
    return pd.DataFrame(rows).T.rename_axis("form")


def _milliseconds(run: Path, texts: list[str]) -> dict[str, float]:
    """What each form takes for one text, in turn, so that all meet the same machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads())
    try:
        models = {form: open_form(run, form).to("cpu") for form in forms(run)}  # ONNX Runtime's are set when it opens
        took = {form: [] for form in models}
        for start in range(0, len(texts), BLOCK):
            for form, model in models.items():
                for nth, text in enumerate(texts[start : start + BLOCK]):
                    started = time.perf_counter()
                    embed(model, [text])
                    took[form] += [1000 * (time.perf_counter() - started)] if nth >= WARM else []
    finally:
        torch.set_num_threads(before)
    return {form: round(float(np.median(ms)), 2) for form, ms in took.items()}


def _similarity(model, known, queries: list[str], documents: list[str]) -> np.ndarray:
    return embed(model, queries) @ known(tuple(documents)).T


def choose(encoder: str, compared: pd.DataFrame) -> str:
    """The form that serves: of those that `encoder` allows, the last that is quicker and costs little."""
    best, *others = CHOICES[encoder]
    for form in others:
        quicker = compared["ms for one"][best] / compared["ms for one"][form]
        if quicker >= QUICKER and compared[MAIN][best] - compared[MAIN][form] <= COST:
            best = form
    return best


def verdict(compared: pd.DataFrame, served: str) -> str:
    """What the form that serves gains and costs, beside the reference."""
    if served == "torch":
        return "Requests are encoded by the tuned encoder itself, in PyTorch"
    reference, form = compared.loc["torch"], compared.loc[served]
    times, lost = reference["ms for one"] / form["ms for one"], form[MAIN] - reference[MAIN]
    return f"{served} encodes a request {times:.1f} times as quickly; {MAIN} moves by {lost:+.3f}"
