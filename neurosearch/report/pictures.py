"""Static pictures (matplotlib, PNG): data profiles, code usage, the tree of IDs, maps."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from neurosearch.core.semantic_ids import SemanticIds

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def png(figure: Figure) -> bytes:
    """The figure's file."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return stream.getvalue()


def _figure(columns: int = 1, width: float = 5.0, height: float = 3.4) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height), layout="constrained")
    return figure, np.atleast_1d(figure.subplots(1, columns))


def profile_picture(profile: Mapping[str, Any]) -> bytes:
    """Labels, query lengths, judged products a query: one line or bar group a split."""
    figure, (labels, words, judged) = _figure(3)
    splits = profile["splits"]
    names = sorted({label for split in splits.values() for label in split["labels"]})
    width = 0.8 / max(1, len(splits))
    for place, (split, facts) in enumerate(splits.items()):
        shares = [facts["labels"].get(name, 0) / facts["judgments"] for name in names]
        labels.bar(np.arange(len(names)) + place * width, shares, width, label=split)
        for axes, key in ((words, "query_words"), (judged, "judged")):
            x = sorted(facts[key])
            axes.plot(x, [facts[key][n] / facts["queries"] for n in x], marker=".", label=split)
    labels.set_xticks(np.arange(len(names)), names, rotation=45, fontsize=8)
    labels.set(title="labels", ylabel="share of judgments")
    words.set(title="words of a query", ylabel="share of queries")
    judged.set(title="judged products of a query")
    labels.legend(fontsize=8)
    return png(figure)


def usage_picture(levels: Sequence[Mapping[str, Any]]) -> bytes:
    """For each level how often its codes are used, most used first."""
    drawn = [level for level in levels if level["counts"] is not None]
    figure, panels = _figure(max(1, len(drawn)), 3.2, 3.0)
    for number, (axes, level) in enumerate(zip(panels, drawn, strict=False), 1):
        counts = np.sort(level["counts"])[::-1]
        axes.fill_between(np.arange(len(counts)), counts, step="mid")
        axes.set(title=f"level {number}: perplexity {level['perplexity']:.0f} of {level['size']}")
        axes.set_xlabel("codes, most used first")
    panels[0].set_ylabel("products")
    return png(figure)


def tree_picture(ids: SemanticIds) -> bytes:
    """A sunburst: first codes inside, second codes around them, angles as products.

    The largest codes come first; a code's hue is its angle, so every one has a colour of its own.
    Codes with less than 2 % of the products have no number.

    Args:
        ids: of the catalogue.

    Returns:
        A PNG.
    """
    from matplotlib.colors import hsv_to_rgb

    figure, (axes,) = _figure(1, 5.4, 5.6)
    sizes = np.bincount(ids.codes[:, 0])
    order = np.flatnonzero(sizes)[np.argsort(-sizes[sizes > 0], kind="stable")]
    inner = sizes[order]
    middle = (inner.cumsum() - inner / 2) / inner.sum()
    colours = [hsv_to_rgb((hue, 0.65, 0.9)) for hue in middle]
    names = [
        str(code) if size >= 0.02 * len(ids) else ""
        for code, size in zip(order, inner, strict=True)
    ]
    ring = {"width": 0.3, "edgecolor": "white"}
    line = min(0.5, 20 / len(order))
    axes.pie(
        inner,
        radius=0.7,
        colors=colours,
        labels=names,
        labeldistance=0.72,
        textprops={"fontsize": 8, "ha": "center"},
        wedgeprops={**ring, "linewidth": line},
    )
    if ids.codes.shape[1] > 1:
        outer, shades = [], []
        for hue, code in zip(middle, order, strict=True):
            counts = np.bincount(ids.codes[ids.codes[:, 0] == code, 1])
            counts = np.sort(counts[counts > 0])[::-1]
            outer += counts.tolist()
            shades += [hsv_to_rgb((hue, 0.25 + 0.25 * (n % 2), 0.95)) for n in range(len(counts))]
        axes.pie(outer, radius=1.0, colors=shades, wedgeprops={**ring, "linewidth": 0.1 * line})
    axes.set_title(f"{len(order)} first codes, and second codes around them", fontsize=10)
    return png(figure)


def scree_picture(shares: np.ndarray) -> bytes:
    """Share of the variance that the first principal components hold, with the 90 % mark.

    Args:
        shares: of each component, descending.

    Returns:
        A PNG.
    """
    figure, (axes,) = _figure(1, 5.4, 3.4)
    held = np.cumsum(shares)
    needed = int(np.searchsorted(held, 0.9)) + 1
    axes.plot(np.arange(1, len(held) + 1), held)
    axes.axhline(0.9, linestyle=":", color="0.5")
    axes.axvline(needed, linestyle=":", color="0.5")
    axes.annotate(
        f"90 % in {needed} of {len(held)}", (needed, 0.9), (6, -14), textcoords="offset points"
    )
    axes.set(xlabel="principal components", ylabel="share of the variance", ylim=(0, 1.02))
    return png(figure)


def map_picture(points: Mapping[str, np.ndarray], overlays: Mapping[str, np.ndarray]) -> bytes:
    """Maps of products, a column a projection, a row an overlay.

    Args:
        points: N×2 places by projection.
        overlays: N values by name: numbers of classes (integers) or a metric (floats).

    Returns:
        A PNG.
    """
    from matplotlib.figure import Figure

    size = (4.2 * len(points), 4.0 * len(overlays))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(overlays), len(points), squeeze=False)
    for line, (title, values) in zip(panels, overlays.items(), strict=True):
        is_class = np.issubdtype(values.dtype, np.integer)
        # Neighbouring numbers are no neighbouring classes.
        shades = (values * 7919) % 256 if is_class else values
        look = (
            {"cmap": "hsv"} if is_class else {"cmap": "viridis", "vmax": np.quantile(values, 0.98)}
        )
        for axes, (name, places) in zip(line, points.items(), strict=True):
            drawn = axes.scatter(places[:, 0], places[:, 1], c=shades, s=2, linewidths=0, **look)
            axes.set(title=f"{name}, by {title}", xticks=[], yticks=[])
        if not is_class:
            figure.colorbar(drawn, ax=line[-1], shrink=0.7)
    return png(figure)
