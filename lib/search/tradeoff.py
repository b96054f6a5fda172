"""The trade-off of speed and quality among the forms of a run's encoder, and the choice of the form that serves."""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from lib.core.encoder import embed, seconds, speed
from lib.core.errors import WorkbookError
from lib.core.measures import MAIN, Encoded, rank_by_similarity, score_ranking
from lib.core.processes import threads
from lib.search.encoders import open_form
from lib.search.index import KINDS
from lib.search.integrity import forms

# The forms that each value of the parameter `encoder` allows, the reference form first.
CHOICES = {"torch": ["torch"], "onnx": ["onnx", "onnx-int8"], "static": ["static"]}
# A form is chosen if it encodes a request this many times as fast and costs at most this much nDCG@10.
FASTER, COST = 1.2, 0.01
BLOCKS, BLOCK, WARM = 5, 20, 5  # requests that a form encodes in a row; the first ones are not counted

Similarity = Callable[[list[str], list[str]], np.ndarray]  # queries, documents -> (queries, documents)


def check(encoder: str, static_texts: int, index: str) -> None:
    """Raise WorkbookError for parameters that would waste a training: unknown values, a static form without texts."""
    for name, value, values in (("encoder", encoder, CHOICES), ("index", index, KINDS)):
        if value not in values:
            raise WorkbookError(f"{name} is {value!r}, but must be one of {', '.join(values)}.")
    if encoder == "static" and not static_texts:
        raise WorkbookError("encoder is static, which needs texts to learn from: set static_texts=100000.")


def compare(
    run: Path, tracks: pd.DataFrame, requests: pd.DataFrame, outside: Callable[[Similarity], dict] | None = None
) -> pd.DataFrame:
    """Measure the speed on the CPU and the quality of each form of a run's encoder.

    The tracks' vectors are the tuned transformer's for all forms, as in the index. `outside` is an outside benchmark,
    which scores a similarity; its measures become columns.

    Returns:
        Index form; columns nDCG@10; same top 10, the share of the reference form's ten best tracks that the form
        ranks there too; cosine, the mean to the reference's vector of the request; ms for one, the median of requests
        encoded alone on the threads of one kernel; texts per second, in batches on all threads; MB on disk.
    """
    rows, ms = {}, _milliseconds(run, requests["text"].drop_duplicates().head(BLOCKS * BLOCK).tolist())
    documents = cache(partial(embed, open_form(run, "torch").to("cpu")))
    for form in forms(run):
        model = open_form(run, form).to("cpu")
        queries = embed(model, requests["text"])
        ranking = rank_by_similarity(Encoded(documents(tuple(tracks["text"])), queries), tracks, requests)
        best = [set(list(scores)[:10]) for scores in ranking.values()]
        if form == "torch":
            reference, expected = queries, best
        folder = run / ("model" if form == "torch" else f"encoders/{form}")
        rows[form] = {
            MAIN: score_ranking(ranking, requests)[MAIN].mean(),
            "same top 10": np.mean([len(a & b) / len(b) for a, b in zip(best, expected, strict=True)]),
            "cosine": (queries * reference).sum(axis=1).mean(),
            "ms for one": ms[form],
            "texts per second": speed(model, requests["text"])["cpu"]["texts_per_second"],
            "MB": sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6,
        }
        if outside:
            rows[form] |= outside(lambda some, others, model=model: embed(model, some) @ documents(tuple(others)).T)
    return pd.DataFrame(rows).T.rename_axis("form")


def _milliseconds(run: Path, texts: list[str]) -> dict[str, float]:
    """Return each form's median time for one text. The forms take turns, so the machine's load is the same for all."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads())
    try:
        models = {form: open_form(run, form, threads()).to("cpu") for form in forms(run)}
        times = {form: [] for form in models}
        for start in range(0, len(texts), BLOCK):
            for form, model in models.items():
                times[form] += [seconds(model, [text]) for text in texts[start : start + BLOCK]][WARM:]
    finally:
        torch.set_num_threads(before)
    return {form: round(1000 * float(np.median(values)), 2) for form, values in times.items()}


def choose(encoder: str, compared: pd.DataFrame) -> str:
    """Choose the form that serves: of those that `encoder` allows, the last that is faster and costs little."""
    best, *others = CHOICES[encoder]
    for form in others:
        ratio = compared["ms for one"][best] / compared["ms for one"][form]
        if ratio >= FASTER and compared[MAIN][best] - compared[MAIN][form] <= COST:
            best = form
    return best


def verdict(compared: pd.DataFrame, served: str) -> str:
    """Return a sentence on the speed and the cost of the form that serves."""
    if served == "torch":
        return "The tuned encoder itself encodes requests, in PyTorch"
    reference, form = compared.loc["torch"], compared.loc[served]
    ratio, change = reference["ms for one"] / form["ms for one"], form[MAIN] - reference[MAIN]
    return f"{served} encodes a request {ratio:.1f} times as fast; {MAIN} moves by {change:+.3f}"
