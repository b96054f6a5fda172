"""Maps of an embedding space: UMAP, its trustworthiness, and an interactive page for JupyterLab and the report."""

from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from bokeh import models
from bokeh.embed import file_html
from bokeh.layouts import column, row
from bokeh.plotting import figure as bokeh_figure
from bokeh.resources import INLINE
from bokeh.transform import factor_cmap, linear_cmap
from scipy.linalg import orthogonal_procrustes
from sklearn.manifold import trustworthiness
from umap import UMAP

from lib.core.pages import render
from lib.core.style import FAINT, groups
from lib.debug.similarity import KNOWN
from lib.debug.space import FEWEST, NEIGHBOURS, can_compare, neighbours, sample_rows
from lib.tracks.moods import GENRES

UMAP_NEIGHBOURS = 15
JUDGED = 2_000  # tracks for the trustworthiness, whose memory grows with their square
POINTS = 2_000  # tracks of the interactive map: more would make the page larger than 6 MB
LOOK = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))


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

    UMAP fits a random sample of `EXACT` tracks and places the others among them, which bounds the time: 100,000
    × 384 take under a minute on 2 cores (make bench).
    """
    fitted = sample_rows(len(vectors), seed)
    rest = np.setdiff1d(np.arange(len(vectors)), fitted)
    points = np.empty((len(vectors), 2), np.float32)
    umap = UMAP(n_neighbors=min(UMAP_NEIGHBOURS, len(vectors) - 1), metric="cosine", random_state=seed, n_jobs=1)
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
    """Measure how well a map keeps the `NEIGHBOURS` nearest neighbours of up to `JUDGED` tracks.

    Returns:
        trustworthiness: near 1 if neighbours in the map are near in the space (Venna and Kaski 2001);
        neighbours kept: the share of neighbours in the space that are neighbours in the map.
    """
    rows = np.random.default_rng(seed).permutation(len(vectors))[:JUDGED]
    in_space, in_map = neighbours(vectors[rows])[0], neighbours(points[rows])[0]
    kept = (in_space[:, :, None] == in_map[:, None, :]).any(axis=2).mean()
    trust = trustworthiness(vectors[rows], points[rows], n_neighbors=NEIGHBOURS, metric="cosine")
    return {"trustworthiness": float(trust), "neighbours kept": float(kept)}


def ways(tracks: pd.DataFrame) -> list[str]:
    """Return the columns to colour maps by: of mood, genre and energy those that most tracks have; else the artist."""
    known = [way for way in ("mood", "genre", "energy") if (~tracks[way].isin(["", np.nan])).mean() >= KNOWN]
    return known or ["artist"]


def coloured(tracks: pd.DataFrame, way: str) -> pd.Series:
    """Return the values that a map is coloured by: a known genre's family, else the column `way`."""
    if way == "genre":
        return tracks["genre"].map(lambda genre: GENRES[genre].family if genre in GENRES else genre)
    return tracks[way]


def sharing(points: np.ndarray, values: pd.Series) -> tuple[float, float]:
    """Return the share of neighbours in a map that have a track's value, and the share by chance. Unknown: ""."""
    known = (values != "").to_numpy()
    near, of = neighbours(points[known])[0], values[known].to_numpy()
    chance = (values[known].value_counts(normalize=True) ** 2).sum()
    return float((of[near] == of[:, None]).mean()), float(chance)


def interactive(points: dict[str, np.ndarray], vectors: dict[str, np.ndarray], tracks: pd.DataFrame) -> str:
    """Return a page with a map for each encoder, coloured by each of `ways`; "" without maps.

    Hovering over a dot names its song and marks it in every map. Clicking it lists its neighbours in each space.

    Args:
        points, vectors: encoder name -> (n, 2) and (n, d); the first `POINTS` are shown.
        tracks: the n tracks, in random order.

    Returns:
        HTML with a frame that needs no network.
    """
    if not points:
        return ""
    tracks = tracks.head(POINTS)
    colors = {way: {**groups(coloured(tracks, way)), "others": FAINT} for way in ways(tracks) if way != "energy"}
    fills = {way: factor_cmap(way, list(of.values()), list(of)) for way, of in colors.items()}
    if "energy" in ways(tracks):
        fills["energy"] = linear_cmap("energy", "Cividis256", 0, 1, nan_color=FAINT)
    source = _source(points, vectors, tracks, colors)
    lists = models.ColumnDataSource({name: [] for name in points})
    click = models.CustomJS(args={"source": source, "lists": lists, "names": list(points)}, code=LOOK["click"])
    source.selected.js_on_change("indices", click)
    ranges = {name: {"x_range": models.DataRange1d(), "y_range": models.DataRange1d()} for name in points}
    tabs = [
        models.TabPanel(title=f"by {way}", child=_row(_plot(name, source, fill, ranges[name]) for name in points))
        for way, fill in fills.items()
    ]
    near = _row(_list(name, lists) for name in points)
    page = column(models.Div(text=LOOK["help"]), models.Tabs(tabs=tabs, **LOOK["wide"]), near, **LOOK["wide"])
    return render("debug/map.html", page=file_html(page, INLINE, "Map of the space"))


def _source(points: dict, vectors: dict, tracks: pd.DataFrame, colors: dict[str, dict]) -> models.ColumnDataSource:
    """Return each track's name, coloured properties, place in each map, and rows of its neighbours in each space."""
    titles = [" — ".join(filter(None, names)) for names in tracks[["title", "artist"]].to_numpy()]
    kinds = [", ".join(filter(None, kind)) for kind in tracks[["mood", "genre"]].to_numpy()]
    values = {way: coloured(tracks, way) for way in colors}
    data = {way: values[way].where(values[way].isin(of), "others").tolist() for way, of in colors.items()}
    data["energy"] = tracks["energy"].astype(float).to_numpy()
    data["song"] = [f"{title} [{kind}]" if kind else title for title, kind in zip(titles, kinds, strict=True)]
    for name, xy in points.items():
        data[f"{name} x"], data[f"{name} y"] = xy[: len(tracks)].astype(np.float32).round(3).T
        data[f"{name} near"] = neighbours(vectors[name][: len(tracks)])[0].tolist()
    return models.ColumnDataSource(data)


def _plot(name: str, source: models.ColumnDataSource, fill, ranges: dict):
    plot = bokeh_figure(title=name, **ranges, **LOOK["plot"])
    plot.scatter(f"{name} x", f"{name} y", source=source, color=fill, **LOOK["dot"])
    plot.add_tools(models.HoverTool(tooltips="@song"))
    plot.add_layout(models.ColorBar(color_mapper=fill.transform, width=12), "right")
    plot.axis.visible = plot.grid.visible = False
    return plot


def _list(name: str, lists: models.ColumnDataSource) -> models.DataTable:
    near = models.TableColumn(field=name, title=f"nearest in {name}", sortable=False)
    return models.DataTable(source=lists, columns=[near], **LOOK["list"])


def _row(parts):
    return row(*parts, **LOOK["row"])
