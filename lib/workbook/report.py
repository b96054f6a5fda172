"""The run as one page (report.html) and as a few lines in the terminal, both from what the run left."""

from __future__ import annotations

import re
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

WIDGET = "application/vnd.jupyter.widget-view+json"  # progress bars: they are done, and no page can show them


def write(run: Path, record: dict) -> None:
    """Write report.html, one file that needs nothing else: verdict, figures, the notebooks' findings, how it was made.

    Args:
        run: the run's folder, with its executed notebooks, metrics.json, quality.json and embedding.json.
        record: what run.json holds.
    """
    metrics = read_json(run / "metrics.json")
    stages = record["stages"]
    made = {name: sha256 for stage in stages.values() for name, sha256 in stage.get("outputs", {}).items()}
    told = {name: nbformat.read(run / f"{name}.ipynb", 4) for name in STAGES}
    page(
        run / "report.html",
        "workbook/report",
        title=f"Run {run.name}",
        run=record,
        metrics=metrics,
        verdict=Markup(markdown2html(findings.headline(metrics))),
        cards=_cards(run, metrics),
        figures=table(findings.summary(metrics)),
        pictures=[picture for notebook in reversed(told.values()) for picture in _headlines(notebook)],
        parts=[_part(name, notebook, stages.get(name, {}).get("seconds")) for name, notebook in told.items()],
        parameters=table(pd.Series(record["parameters"], dtype=object).to_frame("value")),
        fingerprints=table(pd.Series(made, dtype=object).to_frame("SHA-256")),
        packages=table(pd.Series(record["packages"], dtype=object).to_frame("version")),
    )


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


def _cards(run: Path, metrics: dict) -> list[dict[str, str]]:
    """The four figures that come first, each with what it is."""
    base, tuned = (metrics["encoders"][name]["retrieval"][measures.MAIN]["mean"] for name in ("base", "tuned"))
    change = metrics["difference"][measures.MAIN]
    rules = read_json(run / "quality.json")["rules"]
    amiss = [rule["rule"] for rule in rules if not rule["passed"]]
    checks = pd.DataFrame(read_json(run / "embedding.json")["scorecard"])
    checks = checks[checks["verdict"] != "not measured"]
    look = checks.loc[checks["verdict"] != "ok", "check"]
    forms = metrics["forms"]["compared"]
    ms = {name: forms[name]["ms for one"] for name in ("torch", metrics["forms"]["served"])}
    return [
        {
            "name": "nDCG@10, base to tuned",
            "value": f"{base:.3f} → {tuned:.3f}",
            "said": f"difference {change['low']:+.3f} to {change['high']:+.3f}",
        },
        {
            "name": "Data quality",
            "value": f"{len(rules) - len(amiss)} of {len(rules)} rules",
            "said": "all hold" if not amiss else f"not: {', '.join(amiss)}",
        },
        {
            "name": "Embedding space",
            "value": f"{len(checks) - len(look)} of {len(checks)} checks",
            "said": "all healthy" if look.empty else f"look at: {', '.join(look)}",
        },
        {
            "name": "Speed on a CPU",
            "value": f"{ms[metrics['forms']['served']]:.1f} ms",
            "said": f"to encode one request ({metrics['forms']['served']}); PyTorch takes {ms['torch']:.1f} ms",
        },
    ]


def _headlines(notebook) -> list[dict[str, str]]:
    """The pictures of the cells tagged headline: those that come first."""
    outputs = [out for cell in notebook.cells if "headline" in _tags(cell) for out in cell.outputs]
    pictures = [out for out in outputs if "image/png" in out.get("data", {})]
    return [{"png": out.data["image/png"], "alt": out.metadata["image/png"]["alt"]} for out in pictures]


def _part(name: str, notebook, seconds: float | None) -> dict:
    """An executed notebook as a part of a page: its title, and its words, tables and pictures, without its code."""
    title, *rest = notebook.cells[0].source.split("\n", 1)
    notebook.cells[0].source = "".join(rest)
    notebook.cells = [cell for cell in notebook.cells if not {"parameters", "injected-parameters"} & _tags(cell)]
    for i, cell in enumerate(notebook.cells):
        cell["id"] = f"{name}-{i}"
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"^(?=#)", "#", cell.source, flags=re.M)  # the page has the first heading
        else:
            kept = [out for out in cell.outputs if WIDGET not in out.get("data", {})]
            cell.outputs = [out for out in kept if out.get("name") != "stderr"]  # warnings stay in the notebook
    told = {"exclude_input": True, "exclude_output_prompt": True, "exclude_anchor_links": True}
    exporter = HTMLExporter(template_name="basic", config=Config({"HTMLExporter": told}))
    html = Markup(exporter.from_notebook_node(notebook)[0])
    return {"name": name, "title": title.lstrip("# "), "html": html, "seconds": seconds}


def _tags(cell) -> set[str]:
    return set(cell.metadata.get("tags", []))
