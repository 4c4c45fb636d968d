"""How figures look: palette, sizes, panels placed in inches, and saving."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from rsacompare.schema import store

P = ParamSpec("P")
T = TypeVar("T")

# Okabe & Ito's palette, the order chosen so that the first four differ most in print
OKABE_ITO = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
    "#8C8C00",
)
# Tol's muted palette for what is no network (categories of stimuli)
CATEGORIES = (
    "#332288",
    "#CC6677",
    "#117733",
    "#DDCC77",
    "#88CCEE",
    "#882255",
    "#44AA99",
    "#999933",
    "#AA4499",
)
MARKERS = "osD^vPXp"
INK, GREY, CEILING = "#222222", "#777777", "#D9D9D9"
GREYS, BASELINE_MARKERS = ("#8A8A8A", "#5E5E5E", "#B0B0B0"), "dh<>8"  # of baselines
WIDTH = 7.2  # inches: two columns of a journal, so that 7 pt stay 7 pt in print
DPI = 220
RC: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],  # comes with matplotlib: the same glyphs on every machine
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7.5,
    "axes.linewidth": 0.6,
    "axes.edgecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.2,
    "svg.fonttype": "path",  # text as outlines: looks the same without our font
    "svg.hashsalt": "rsacompare",  # the same figure gives the same file
}


@dataclass(frozen=True)
class Drawing:
    """A figure with the name of its file, its heading and a caption that explains every mark."""

    name: str
    figure: Figure
    title: str
    caption: str


def drawn(function: Callable[P, T]) -> Callable[P, T]:
    """Run a drawing function with our settings; matplotlib's own are as before afterwards."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        with matplotlib.rc_context(RC):
            return function(*args, **kwargs)

    return wrapped


class Networks(list[str]):
    """The networks of a study in order; those among `baselines` are drawn in grey and dashed."""

    def __init__(self, names: Iterable[str], baselines: Iterable[str] = ()):
        super().__init__(names)
        self.baselines = [name for name in self if name in set(baselines)]
        self.others = [name for name in self if name not in self.baselines]


def _place(networks: Sequence[str], network: str) -> tuple[int, bool]:
    """Where a network stands among its like, and whether it is a baseline."""
    if isinstance(networks, Networks):
        below = network in networks.baselines
        return (networks.baselines if below else networks.others).index(network), below
    return networks.index(network), False


def colour(networks: Sequence[str], network: str) -> str:
    """The colour of a network: the same in all figures of a study; a grey for baselines."""
    place, baseline = _place(networks, network)
    hues = GREYS if baseline else OKABE_ITO
    return hues[place % len(hues)]


def marker(networks: Sequence[str], network: str) -> str:
    """The marker of a network, so that figures can be read in grey."""
    place, baseline = _place(networks, network)
    shapes = BASELINE_MARKERS if baseline else MARKERS
    return shapes[place % len(shapes)]


def dashes(networks: Sequence[str], network: str) -> str | tuple[float, tuple[float, float]]:
    """Solid for a network, dashed for a baseline."""
    return (0, (3, 1.5)) if _place(networks, network)[1] else "-"


def panels(
    n: int,
    columns: int,
    height: float,
    *,
    left: float = 0.55,
    right: float = 0.1,
    top: float = 0.6,
    bottom: float = 0.45,
    gap_x: float = 0.25,
    gap_y: float = 0.45,
    width: float | None = None,
) -> tuple[Figure, list[Axes]]:
    """A figure of `n` equal panels, all sizes in inches (no layout engine: it is slow).

    `width` is that of one panel; by default the panels fill the page.
    """
    columns = max(1, min(columns, n))
    rows = -(-n // columns)
    if width is None:
        width = (WIDTH - left - right - gap_x * (columns - 1)) / columns
    total_w = WIDTH
    total_h = top + bottom + rows * height + (rows - 1) * gap_y
    figure = Figure(figsize=(total_w, total_h))
    axes = []
    for i in range(n):
        row, column = divmod(i, columns)
        x = left + column * (width + gap_x)
        y = total_h - top - (row + 1) * height - row * gap_y
        box = (x / total_w, y / total_h, width / total_w, height / total_h)
        axes.append(figure.add_axes(box))
    return figure, axes


def legend(figure: Figure, handles: Iterable[Any], columns: int = 4, left: float = 0.5) -> None:
    """One legend above all panels."""
    figure.legend(
        handles=list(handles),
        loc="upper left",
        bbox_to_anchor=(left / figure.get_figwidth(), 1 - 0.02 / figure.get_figheight()),
        ncols=columns,
        frameon=False,
        handlelength=1.6,
        columnspacing=1.4,
        borderaxespad=0.2,
        labelspacing=0.35,
    )


def stamp(figure: Figure, simulated: bool) -> None:
    """Say on the figure itself that data are simulated: figures travel without their page."""
    if simulated:
        figure.text(
            1 - 0.06 / figure.get_figwidth(),
            0.03 / figure.get_figheight(),
            "SIMULATED DATA",
            ha="right",
            va="bottom",
            fontsize=7,
            color="#B00020",
            weight="bold",
        )


def key_subject() -> Line2D:
    """Legend entry of the subject dots."""
    return Line2D(
        [], [], ls="", marker="o", ms=2.6, color=GREY, markeredgewidth=0, label="one subject"
    )


def key_interval(confidence: float) -> Line2D:
    """Legend entry of the whiskers."""
    return Line2D([], [], color=INK, lw=1, label=f"{confidence * 100:g} % interval of the mean")


def key_ceiling(*, banded: bool = True) -> Patch | Line2D:
    """Legend entry of the ceiling: a band, or a line where both bounds are one everywhere."""
    if not banded:
        return Line2D([], [], color=GREY, lw=1.4, label="noise ceiling")
    return Patch(facecolor=CEILING, edgecolor=GREY, lw=0.5, label="noise ceiling")


def key_chance() -> Line2D:
    """Legend entry of the chance line."""
    return Line2D([], [], color=INK, lw=0.8, ls=(0, (4, 2)), label="chance")


@drawn
def save(drawing: Drawing, folder: Path) -> bytes:
    """Write `<name>.svg` and `<name>.png`, each whole or not at all; returns the SVG."""
    svg = folder / f"{drawing.name}.svg"
    with store.atomic_path(svg) as temporary:
        drawing.figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": None})
    with store.atomic_path(folder / f"{drawing.name}.png") as temporary:
        drawing.figure.savefig(
            temporary,
            format="png",
            dpi=DPI,
            metadata={"Software": None},
            pil_kwargs={"compress_level": 4},
        )
    return svg.read_bytes()
