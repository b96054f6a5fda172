"""Maps of an embedding space: UMAP, its trustworthiness, and an interactive page for JupyterLab and the report."""

import html
import warnings

import numpy as np
import pandas as pd
from bokeh import models
from bokeh.embed import file_html
from bokeh.layouts import column, row
from bokeh.plotting import figure as bokeh_figure
from bokeh.resources import INLINE
from bokeh.transform import factor_cmap, linear_cmap
from scipy.linalg import orthogonal_procrustes
from sklearn.manifold import trustworthiness
from umap import UMAP

from lib.core.style import FAINT, groups
from lib.debug.space import FEWEST, NEIGHBOURS, can_compare, neighbours, sample_rows

UMAP_NEIGHBOURS = 15
JUDGED = 2_000  # tracks for the trustworthiness, whose memory grows with their square
POINTS = 2_000  # tracks of the interactive map: more would make the page larger than 6 MB
FRAME = 'style="width: 100%; height: 820px; border: 0; background: white" loading="lazy"'
HELP = "Hover over a dot to name its song. Click it to list the song (row 0) and its neighbours in each space."
LIST_NEIGHBOURS = """
const row = cb_obj.indices[0];
if (row === undefined) return;
for (const name of names)
  lists.data[name] = [row, ...source.data[name + ' near'][row]].map((i) => source.data.song[i]);
lists.change.emit();
"""
DOT = {
    "size": 6, "alpha": 0.8, "line_color": None, "nonselection_alpha": 0.3,
    "hover_line_color": "#000000", "selection_line_color": "#000000", "selection_line_width": 3,
}  # fmt: skip
WIDE = {"sizing_mode": "stretch_width", "min_width": 300}


def project_all(vectors: dict[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """Map each encoder's space, turned to match the last. Encoder name -> (n, d) to encoder name -> (n, 2).

    Returns no map, and prints the reason, if the tracks have no neighbours.
    """
    if not all(map(can_compare, vectors.values())):
        n = len(next(iter(vectors.values())))
        print(f"A map needs at least {FEWEST} tracks; there are {n}{', all with one vector' if n >= FEWEST else ''}.")
        return {}
    points = {name: project(v, seed) for name, v in vectors.items()}
    last = list(points)[-1]
    return {name: xy if name == last else aligned(xy, points[last]) for name, xy in points.items()}


def project(vectors: np.ndarray, seed: int) -> np.ndarray:
    """Map vectors to two dimensions with UMAP by cosine distance. The same seed gives the same map. (n, d) -> (n, 2).

    UMAP fits a random sample of `space.LIMIT` tracks and places the others among them, which bounds the time: 100,000
    × 384 take under a minute on 2 cores (make bench).
    """
    fitted = sample_rows(len(vectors), seed)
    rest = np.setdiff1d(np.arange(len(vectors)), fitted)
    points = np.empty((len(vectors), 2), np.float32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="n_jobs value")
        umap = UMAP(n_neighbors=min(UMAP_NEIGHBOURS, len(vectors) - 1), metric="cosine", random_state=seed)
        points[fitted] = umap.fit_transform(vectors[fitted])
        if len(rest):
            points[rest] = umap.transform(vectors[rest])
    return points


def aligned(points: np.ndarray, to: np.ndarray) -> np.ndarray:
    """Rotate and mirror a map to match another of the same tracks (orthogonal Procrustes). (n, 2) each.

    UMAP's axes have no meaning, so two maps can be compared only after this.
    """
    centred = points - points.mean(axis=0)
    return centred @ orthogonal_procrustes(centred, to - to.mean(axis=0))[0]


def judge(vectors: np.ndarray, points: np.ndarray, seed: int) -> dict[str, float]:
    """Measure how well a map keeps the ten nearest neighbours of up to `JUDGED` tracks.

    Returns:
        trustworthiness: near 1 if neighbours in the map are near in the space (Venna and Kaski 2001);
        neighbours kept: the share of neighbours in the space that are neighbours in the map.
    """
    rows = np.random.default_rng(seed).permutation(len(vectors))[:JUDGED]
    in_space, in_map = neighbours(vectors[rows])[0], neighbours(points[rows])[0]
    kept = np.mean([len(set(a) & set(b)) / NEIGHBOURS for a, b in zip(in_space, in_map, strict=True)])
    trust = trustworthiness(vectors[rows], points[rows], n_neighbors=NEIGHBOURS, metric="cosine")
    return {"trustworthiness": float(trust), "neighbours kept": float(kept)}


def interactive(points: dict[str, np.ndarray], vectors: dict[str, np.ndarray], tracks: pd.DataFrame) -> str:
    """Return a page with a map for each encoder, coloured by mood, genre or energy; "" without maps.

    Hovering over a dot names its song and marks it in every map. Clicking it lists its neighbours in each space.

    Args:
        points, vectors: encoder name -> (n, 2) and (n, d); the first `POINTS` are shown.
        tracks: the n tracks, in random order.

    Returns:
        HTML with a frame that needs no network.
    """
    if not points:
        return ""
    source, tracks = _source(points, vectors, tracks.head(POINTS)), tracks.head(POINTS)
    lists = models.ColumnDataSource({name: [] for name in points})
    click = models.CustomJS(args={"source": source, "lists": lists, "names": list(points)}, code=LIST_NEIGHBOURS)
    source.selected.js_on_change("indices", click)
    ranges = {name: {"x_range": models.DataRange1d(), "y_range": models.DataRange1d()} for name in points}
    tabs = [
        models.TabPanel(title=f"by {way}", child=_row(_plot(name, source, fill, ranges[name]) for name in points))
        for way, fill in _fills(source, tracks).items()
    ]
    parts = models.Div(text=HELP), models.Tabs(tabs=tabs, **WIDE), _row(_table(name, lists) for name in points)
    page = file_html(column(*parts, **WIDE), INLINE, "Map of the space")
    return f'<div><iframe title="Interactive map" {FRAME} srcdoc="{html.escape(page)}"></iframe></div>'


def _source(points: dict, vectors: dict, tracks: pd.DataFrame) -> models.ColumnDataSource:
    """Return for each track its name, its place in each map and the rows of its neighbours in each space."""
    titles = [" — ".join(filter(None, names)) for names in tracks[["title", "artist"]].to_numpy()]
    kinds = [", ".join(filter(None, kind)) or "mood unknown" for kind in tracks[["mood", "genre"]].to_numpy()]
    source = models.ColumnDataSource({"song": [f"{t} [{kind}]" for t, kind in zip(titles, kinds, strict=True)]})
    for name, xy in points.items():
        source.data[f"{name} x"], source.data[f"{name} y"] = xy[: len(tracks)].astype(np.float32).round(3).T
        source.data[f"{name} near"] = neighbours(vectors[name][: len(tracks)])[0].tolist()
    return source


def _fills(source: models.ColumnDataSource, tracks: pd.DataFrame) -> dict:
    """Add mood, genre and energy to the source, and return the mapping of each to colours."""
    fills = {}
    for way in ("mood", "genre"):
        colors = {**groups(tracks[way]), "others": FAINT}
        source.data[way] = tracks[way].where(tracks[way].isin(colors), "others").tolist()
        fills[way] = factor_cmap(way, list(colors.values()), list(colors))
    source.data["energy"] = tracks["energy"].astype(float).to_numpy()
    return fills | {"energy": linear_cmap("energy", "Cividis256", 0, 1, nan_color=FAINT)}


def _plot(name: str, source: models.ColumnDataSource, fill, ranges: dict):
    plot = bokeh_figure(title=name, height=420, tools="pan,wheel_zoom,box_zoom,tap,reset", **ranges, **WIDE)
    plot.scatter(f"{name} x", f"{name} y", source=source, color=fill, **DOT)
    plot.add_tools(models.HoverTool(tooltips="@song"))
    plot.add_layout(models.ColorBar(color_mapper=fill.transform, width=12), "right")
    plot.axis.visible = plot.grid.visible = False
    return plot


def _table(name: str, lists: models.ColumnDataSource) -> models.DataTable:
    near = models.TableColumn(field=name, title=f"nearest in {name}", sortable=False)
    return models.DataTable(source=lists, columns=[near], height=310, selectable=False, reorderable=False, **WIDE)


def _row(parts):
    return row(*parts, sizing_mode="stretch_width", styles={"flex-wrap": "wrap"})
