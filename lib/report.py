"""The run as one page (report.html) and as a few lines in the terminal, both from what the run left."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbconvert import HTMLExporter
from traitlets.config import Config

from lib.runs import atomic, read_json, shown


def write(run: Path, notebooks: list[str]) -> None:
    """Write report.html from the executed notebooks: their words, tables and pictures, without the code."""
    whole = nbformat.v4.new_notebook()
    for name in notebooks:
        whole.cells += [cell for cell in nbformat.read(run / f"{name}.ipynb", 4).cells if _is_story(cell)]
    for i, cell in enumerate(whole.cells):
        cell["id"] = f"cell-{i}"
    exporter = HTMLExporter(
        config=Config(
            {
                "HTMLExporter": {
                    "exclude_input": True,
                    "exclude_output_prompt": True,
                    "mathjax_url": "",
                    "require_js_url": "",
                }
            }
        )
    )
    body, _ = exporter.from_notebook_node(whole, {"metadata": {"name": f"Run {run.name}"}})
    with atomic(run / "report.html") as temporary:
        temporary.write_text(body, encoding="utf-8")


def summary(run: Path) -> str:
    """What a run found, for the terminal: the comparison, the verdict, a first recommendation, what to do next."""
    metrics = read_json(run / "metrics.json")
    lines = ["", f"{'':8}" + "".join(f"{m:>12}" for m in next(iter(metrics["encoders"].values()))["retrieval"])]
    for name, encoder in metrics["encoders"].items():
        lines.append(f"{name:8}" + "".join(f"{v['mean']:12.3f}" for v in encoder["retrieval"].values()))
    example = metrics["example"]
    lines += ["", metrics["verdict"], "", f'"{example["text"]}"']
    for track in example["tracks"]:
        name = " — ".join(filter(None, (track["title"], track["artist"])))
        lines.append(f"  {track['score']:.2f}  {name}  [{track['mood'] or 'mood unknown'}]")
    lines += [
        "",
        f"The whole run as a page: {shown(run / 'report.html')}",
        f"Ask it over HTTP: make serve RUN={shown(run)}",
    ]
    return "\n".join(lines)


def _is_story(cell) -> bool:
    tags = cell.metadata.get("tags", [])
    return cell.cell_type == "markdown" or not {"parameters", "injected-parameters"} & set(tags)
