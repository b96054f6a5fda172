"""HTML pages of a run: templates, and tables."""

from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, select_autoescape
from markupsafe import Markup

from lib.core.files import atomic
from lib.core.paths import ROOT

_pages = Environment(loader=FileSystemLoader(ROOT / "lib"), autoescape=select_autoescape(["html.j2"]), trim_blocks=True)


def page(path: Path, template: str, **values) -> None:
    """Write a page atomically from a template of lib, such as "workbook/report"."""
    with atomic(path) as temporary:
        temporary.write_text(_pages.get_template(f"{template}.html.j2").render(**values), encoding="utf-8")


def table(values: pd.DataFrame) -> Markup:
    """Return a table as HTML, its texts escaped."""
    return Markup(values.to_html(border=0, na_rep=""))
