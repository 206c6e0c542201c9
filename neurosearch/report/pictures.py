"""Static pictures (matplotlib, PNG): data profiles, code usage, the tree of IDs, maps."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from neurosearch.core.semantic_ids import SemanticIds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 24  # first codes that a tree shows by themselves


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


def tree_picture(ids: SemanticIds, titles: Sequence[str]) -> bytes:
    """A sunburst: first codes inside, second codes around them, angles as products.

    Beside it, for each first code that is shown, two products' titles.
    """
    from matplotlib import colormaps

    figure, (axes, beside) = _figure(2, 6.4, 6.4)
    order = np.bincount(ids.codes[:, 0]).argsort()[::-1]
    order = order[np.bincount(ids.codes[:, 0])[order] > 0]
    shown, rest = order[:SHOWN], order[SHOWN:]
    inner = [int((ids.codes[:, 0] == code).sum()) for code in shown]
    colours = [colormaps["tab20"](place % 20) for place in range(len(shown))]
    names = [str(code) for code in shown]
    if len(rest):
        inner.append(len(ids) - sum(inner))
        colours.append((0.85, 0.85, 0.85, 1.0))
        names.append(f"{len(rest)} more")
    ring = {"width": 0.3, "edgecolor": "white", "linewidth": 0.5}
    axes.pie(inner, radius=0.7, colors=colours, labels=names, labeldistance=0.75, wedgeprops=ring)
    if ids.codes.shape[1] > 1:
        outer, shades = [], []
        for place, code in enumerate(shown):
            counts = np.bincount(ids.codes[ids.codes[:, 0] == code, 1])
            counts = np.sort(counts[counts > 0])[::-1]
            outer += counts.tolist()
            red, green, blue, _ = colours[place]
            shades += [(red, green, blue, 0.35 + 0.5 * (n % 2)) for n in range(len(counts))]
        if len(rest):
            outer.append(inner[-1])
            shades.append((0.92, 0.92, 0.92, 1.0))
        axes.pie(outer, radius=1.0, colors=shades, wedgeprops={**ring, "linewidth": 0.1})
    figure.suptitle("semantic IDs: first codes, and second codes around them")
    beside.axis("off")
    for place, code in enumerate(shown):
        inside = np.flatnonzero(ids.codes[:, 0] == code)
        examples = [titles[row] for row in inside[:: max(1, len(inside) // 2)][:2]]
        text = f"{code}: " + " · ".join(f"{title:.48}" for title in examples)
        height = 1 - (place + 0.5) / SHOWN
        beside.text(0, height, "■", fontsize=9, color=colours[place][:3], va="center")
        beside.text(0.03, height, text, fontsize=7, color="0.2", va="center")
    return png(figure)


def map_picture(points: Mapping[str, np.ndarray], codes: np.ndarray) -> bytes:
    """N×2 maps side by side, coloured by N first codes."""
    figure, panels = _figure(len(points), 5.0, 5.0)
    shades = (codes * 7919) % 256  # neighbouring numbers are no neighbouring codes
    for axes, (name, places) in zip(panels, points.items(), strict=True):
        axes.scatter(places[:, 0], places[:, 1], c=shades, s=2, cmap="hsv", linewidths=0)
        axes.set(title=f"{name}, coloured by first code", xticks=[], yticks=[])
    return png(figure)
