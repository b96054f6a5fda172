"""Maps of an embedding space: UMAP, how far to trust it, and one to point at, for JupyterLab and the report."""

from __future__ import annotations

import html
import warnings

import numpy as np
import pandas as pd
from bokeh.embed import file_html
from bokeh.layouts import column, row
from bokeh.models import ColumnDataSource, CustomJS, Div, HoverTool, RadioButtonGroup
from bokeh.palettes import Cividis256
from bokeh.plotting import figure as bokeh_figure
from bokeh.resources import INLINE
from scipy.linalg import orthogonal_procrustes
from sklearn.manifold import trustworthiness
from umap import UMAP

from lib.core.style import FAINT, groups
from lib.debug.checks import NEIGHBOURS, neighbours, sample

JUDGED = 2_000  # tracks that a map is judged on: the measure takes memory by their square
POINTS = 2_000  # of an interactive map: a page of 6 MB must hold it


def project(vectors: np.ndarray, seed: int) -> np.ndarray:
    """UMAP to two dimensions by cosine distance. (n, d) -> (n, 2).

    The same seed gives the same map. Of more than `debugger.LIMIT` tracks a random sample is fitted and the others are
    placed among them, which bounds the time: 100,000 × 384 take under a minute on 2 cores (make bench).
    """
    fitted = sample(len(vectors), seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="n_jobs value")
        umap = UMAP(n_neighbors=min(15, len(vectors) - 1), metric="cosine", random_state=seed)
        points = umap.fit_transform(vectors[fitted])
        whole = np.empty((len(vectors), 2), dtype=points.dtype)
        whole[fitted] = points
        rest = np.setdiff1d(np.arange(len(vectors)), fitted)
        if len(rest):
            whole[rest] = umap.transform(vectors[rest])
    return whole


def aligned(points: np.ndarray, to: np.ndarray) -> np.ndarray:
    """A map turned and mirrored, not bent, to lie as near as it can to another of the same tracks. (n, 2) each.

    UMAP's axes have no meaning, so that two maps are comparable only after this (orthogonal Procrustes).
    """
    centred = points - points.mean(axis=0)
    return centred @ orthogonal_procrustes(centred, to - to.mean(axis=0))[0]


def judge(vectors: np.ndarray, points: np.ndarray, seed: int) -> dict[str, float]:
    """How far to trust a map, over ten neighbours and up to `JUDGED` tracks; both are 0 to 1.

    Returns:
        trustworthiness: whether neighbours in the map are near in the space (Venna and Kaski 2001);
        neighbours kept: the share of the neighbours in the space that are neighbours in the map too.
    """
    rows = np.random.default_rng(seed).permutation(len(vectors))[:JUDGED]
    there, here = neighbours(vectors[rows]), neighbours(points[rows])
    kept = np.mean([len(set(a) & set(b)) / NEIGHBOURS for a, b in zip(there[0], here[0], strict=True)])
    trust = trustworthiness(vectors[rows], points[rows], n_neighbors=NEIGHBOURS, metric="cosine")
    return {"trustworthiness": float(trust), "neighbours kept": float(kept)}


def interactive(points: dict[str, np.ndarray], vectors: dict[str, np.ndarray], tracks: pd.DataFrame) -> str:
    """A page with a map for each encoder: hovering names the song in all, clicking lists its neighbours in each.

    Args:
        points: encoder -> (n, 2), of which the first `POINTS` are shown.
        vectors: encoder -> (n, d), whose neighbours are listed: near in the space, not in the map.
        tracks: the n tracks, in random order.

    Returns:
        HTML that needs no network, in a frame of its own: JupyterLab shows it, and so does the report.
    """
    tracks = tracks.head(POINTS)
    song = tracks["title"] + (" — " + tracks["artist"]).where(tracks["artist"] != "", "")
    shades, legends = _shades(tracks)
    told = {"song": song, "mood": tracks["mood"].replace("", "unknown"), "genre": tracks["genre"]}
    source = ColumnDataSource({name: list(values) for name, values in told.items()} | {"color": shades["mood"]})
    for name, xy in points.items():
        source.data[f"{name} x"], source.data[f"{name} y"] = xy[:POINTS].astype(np.float32).round(3).T
        source.data[f"{name} near"] = neighbours(vectors[name][:POINTS])[0].tolist()
    lists = Div(text="<p>Hover to name a song; click one to list its neighbours in each space.</p>")
    legend, told = Div(text=legends["mood"]), {"s": source, "shades": list(shades.values())}
    choice = RadioButtonGroup(labels=list(shades), active=0)
    choice.js_on_change(
        "active", CustomJS(args=told | {"legend": legend, "legends": list(legends.values())}, code=RECOLOR)
    )
    click = CustomJS(args={"s": source, "lists": lists, "names": list(points)}, code=LIST)
    source.selected.js_on_change("indices", click)
    plots = row(*(_plot(name, source) for name in points), sizing_mode="stretch_width", styles={"flex-wrap": "wrap"})
    lists.sizing_mode = legend.sizing_mode = "stretch_width"
    page = file_html(column(choice, legend, plots, lists, sizing_mode="stretch_width"), INLINE, "Map of the space")
    return f'<div><iframe title="Map to point at" {FRAME} srcdoc="{html.escape(page)}"></iframe></div>'


def _shades(tracks: pd.DataFrame) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Each track's colour by mood, by genre (the commonest of each have one) and by energy; the legend of each."""
    shades, legends = {}, {}
    for way in ("mood", "genre"):
        colors = groups(tracks[way])
        shades[way] = [colors.get(value, FAINT) for value in tracks[way]]
        legends[way] = _legend({**colors, "others": FAINT})
    share = tracks["energy"].astype(float).clip(0, 1)
    shades["energy"] = [FAINT if pd.isna(e) else Cividis256[int(255 * e)] for e in share]
    legends["energy"] = _legend({f"energy {e:g}": Cividis256[int(255 * e)] for e in (0, 0.25, 0.5, 0.75, 1)})
    return shades, legends


def _legend(colors: dict[str, str]) -> str:
    big = "font-size: 1.6em; vertical-align: -0.1em"
    dot = f'<span style="white-space: nowrap; margin-right: 1em"><span style="color: {{}}; {big}">●</span> {{}}</span> '
    return "".join(dot.format(color, html.escape(name)) for name, color in colors.items())


def _plot(name: str, source: ColumnDataSource):
    plot = bokeh_figure(
        title=name, height=400, min_width=300, tools="pan,wheel_zoom,box_zoom,tap,reset", toolbar_location="above",
        sizing_mode="stretch_width",
    )  # fmt: skip
    dots = plot.scatter(
        f"{name} x", f"{name} y", source=source, color="color", size=6, alpha=0.8, line_color=None,
        hover_line_color="#000000", selection_line_color="#000000", selection_line_width=3, nonselection_alpha=0.3,
    )  # fmt: skip
    plot.add_tools(HoverTool(renderers=[dots], tooltips="<b>@song</b><br>@mood, @genre"))
    plot.axis.visible = plot.grid.visible = False
    return plot


FRAME = 'style="width: 100%; height: 720px; border: 0; background: white" loading="lazy"'
RECOLOR = "s.data['color'] = shades[cb_obj.active]; s.change.emit(); legend.text = legends[cb_obj.active]"
LIST = """
const row = cb_obj.indices[0];
if (row === undefined) return;
const safe = (text) => String(text).replace(/[&<>"]/g, (c) => '&#' + c.charCodeAt(0) + ';');
const [song, mood, genre] = ['song', 'mood', 'genre'].map((key) => (i) => safe(s.data[key][i]));
const line = (i) => `${song(i)} <i>${mood(i)}, ${genre(i)}</i>`;
const list = (name) => `<div style="flex: 1 1 16em"><b>${safe(name)}</b><ol style="margin: 0; padding-left: 1.6em">`
  + s.data[name + ' near'][row].map((i) => '<li>' + line(i) + '</li>').join('') + '</ol></div>';
lists.text = '<p>Nearest to <b>' + line(row) + '</b>:</p><div style="display: flex; flex-wrap: wrap; gap: 1em">'
  + names.map(list).join('') + '</div>';
"""
