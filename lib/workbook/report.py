"""The report of a run: one page (report.html) and a summary for the terminal, from the files of the run."""

import re
import shlex
from pathlib import Path

import nbformat
import pandas as pd
from markupsafe import Markup
from nbconvert import HTMLExporter
from nbconvert.filters import markdown2html
from traitlets.config import Config

from lib.core import measures
from lib.core.files import read_json
from lib.core.pages import page, table
from lib.core.paths import shown
from lib.core.runs import STAGES
from lib.performance import findings
from lib.workbook.ask import song

WIDGET = "application/vnd.jupyter.widget-view+json"  # finished progress bars, which no page can show


def write(run: Path, record: dict) -> None:
    """Write report.html: verdict, figures, the notebooks' results, parameters and versions, in one file.

    Args:
        run: the run's folder, with its executed notebooks, metrics.json, quality.json and embedding.json.
        record: the contents of run.json.
    """
    metrics = read_json(run / "metrics.json")
    stages = record["stages"]
    outputs = {name: sha256 for stage in stages.values() for name, sha256 in stage.get("outputs", {}).items()}
    notebooks = {name: nbformat.read(run / f"{name}.ipynb", 4) for name in STAGES}
    page(
        run / "report.html",
        "workbook/report",
        title=f"Run {run.name}",
        run=record,
        metrics=metrics,
        notices=_notices(run),
        verdict=Markup(markdown2html(findings.headline(metrics))),
        measure=measures.MAIN,
        rules=read_json(run / "quality.json")["rules"],
        checks=read_json(run / "embedding.json")["scorecard"],
        explained=table(findings.explained(metrics)),
        figures=table(findings.summary(metrics)),
        pictures=[picture for notebook in reversed(notebooks.values()) for picture in _headlines(notebook)],
        parts=[_part(name, notebook, stages.get(name, {}).get("seconds")) for name, notebook in notebooks.items()],
        parameters=table(pd.Series(record["parameters"], dtype=object).to_frame("value")),
        fingerprints=table(pd.Series(outputs, dtype=object).to_frame("SHA-256")),
        packages=table(pd.Series(record["packages"], dtype=object).to_frame("version")),
    )


def summary(run: Path) -> str:
    """Return a run's results for the terminal: the comparison, the verdict, a first recommendation, the next steps."""
    metrics = read_json(run / "metrics.json")
    lines = [f"WARNING: {notice}" for notice in _notices(run)]
    lines += ["", f"{'':12}" + "".join(f"{m:>12}" for m in next(iter(metrics["encoders"].values()))["retrieval"])]
    for name, encoder in metrics["encoders"].items():
        lines.append(f"{name:12}" + "".join(f"{v['mean']:12.3f}" for v in encoder["retrieval"].values()))
    example = metrics["example"]
    lines += ["", metrics["verdict"], "", f'"{example["text"]}"', *map(song, example["tracks"])]
    page_file = f"The whole run as a page: {shown(run / 'report.html')}"
    return "\n".join([*lines, "", page_file, f"Ask it over HTTP: make serve RUN={shlex.quote(shown(run))}"])


def _notices(run: Path) -> list[str]:
    """Return what a reader must know of the import first: a large share of rows that were left out."""
    return read_json(run / "import.json").get("notices", [])


def _headlines(notebook) -> list[dict[str, str]]:
    """Return the pictures of the cells tagged headline, which stand at the top of the page."""
    outputs = [output for cell in notebook.cells if "headline" in _tags(cell) for output in cell.outputs]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    return [{"png": o.data["image/png"], "alt": o.metadata["image/png"]["alt"]} for o in pictures]


def _part(name: str, notebook, seconds: float | None) -> dict:
    """Return an executed notebook as a part of the page: title, texts, tables and pictures, without its code."""
    title, *rest = notebook.cells[0].source.split("\n", 1)
    notebook.cells[0].source = "".join(rest)
    notebook.cells = [cell for cell in notebook.cells if not {"parameters", "injected-parameters"} & _tags(cell)]
    for i, cell in enumerate(notebook.cells):
        cell["id"] = f"{name}-{i}"
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"^(?=#)", "#", cell.source, flags=re.M)  # the page has the first heading
        else:
            outputs = [output for output in cell.outputs if WIDGET not in output.get("data", {})]
            cell.outputs = [output for output in outputs if output.get("name") != "stderr"]  # the notebook has warnings
    options = {"exclude_input": True, "exclude_output_prompt": True, "exclude_anchor_links": True}
    exporter = HTMLExporter(template_name="basic", config=Config({"HTMLExporter": options}))
    html = Markup(exporter.from_notebook_node(notebook)[0])
    return {"name": name, "title": title.lstrip("# "), "html": html, "seconds": seconds}


def _tags(cell) -> set[str]:
    return set(cell.metadata.get("tags", []))
