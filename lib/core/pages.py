"""Templates of lib, HTML pages of a run, and tables."""

import json
from functools import partial
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, select_autoescape
from markupsafe import Markup

from lib.core.files import atomic
from lib.core.paths import ROOT

ESCAPED = select_autoescape(["html.j2", "svg.j2"])
TEMPLATES = Environment(loader=FileSystemLoader(ROOT / "lib"), autoescape=ESCAPED, trim_blocks=True)
TEMPLATES.filters["yaml"] = partial(json.dumps, ensure_ascii=False)  # JSON is YAML
TEMPLATES.filters["one_line"] = lambda text: " ".join(str(text).split())  # for comments


def render(template: str, **values) -> str:
    """Return the text of a template of lib, such as "playground/song.html". HTML and SVG escape all values."""
    return TEMPLATES.get_template(f"{template}.j2").render(values)


def page(path: Path, template: str, **values) -> None:
    """Write a page atomically from a template of lib, such as "workbook/report"."""
    with atomic(path) as temporary:
        temporary.write_text(render(f"{template}.html", **values), encoding="utf-8")


def table(values: pd.DataFrame) -> Markup:
    """Return a table as HTML, its texts escaped and whole."""
    with pd.option_context("display.max_colwidth", None):
        return Markup(values.to_html(border=0, na_rep=""))
