"""Figures for the notebooks: one look, readable without colour, each with its words as alternative text."""

import base64
import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.ticker
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as MplFigure
from numpy.typing import ArrayLike, NDArray

from twopm_kit.display.formats import Format, formatter, markup, plain, printable
from twopm_kit.errors import DataError

__all__ = ["Figure", "bars", "digits", "heat", "lines"]

_INK = "#1f2430"
_SOFT = "#5b6270"
_GRID = "#e4e7ec"
_PAPER = "#ffffff"
# Distinct in hue and in lightness (after Okabe and Ito), so that they stay apart in grey, too.
_COLOURS = ("#0b5fa5", "#d1591b", "#0f8a6a", "#8a4fa3", "#b08900", "#3d4656")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_DASHES = ("-", "--", "-.", ":", (0, (6, 2, 1, 2, 1, 2)), (0, (1, 1)))
_HATCHES = ("", "///", "...", "xxx", "\\\\\\", "++")
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10.5,
    "text.color": _INK,
    "axes.labelcolor": _SOFT,
    "axes.edgecolor": "#9aa1ad",
    "axes.facecolor": _PAPER,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 12.5,
    "axes.titleweight": "bold",
    "axes.titlepad": 12.0,
    "axes.axisbelow": True,
    "figure.facecolor": _PAPER,
    "xtick.color": _SOFT,
    "ytick.color": _SOFT,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "grid.color": _GRID,
    "hatch.linewidth": 0.6,
    # Names are shown as they are: a dollar sign starts no formula.
    "text.parse_math": False,
}


class Figure:
    """A finished picture with its words.

    Attributes
    ----------
    alt : str
        What the picture shows, for those who cannot see it.
    png : bytes
        The picture at twice the size on screen.
    """

    def __init__(self, figure: MplFigure, alt: str) -> None:
        if not alt.strip():
            raise DataError("a figure needs words that say what it shows, got none", hint="pass alt=")
        self.alt = printable(alt)
        buffer = io.BytesIO()
        FigureCanvasAgg(figure)
        with warnings.catch_warnings():
            # A letter that the font does not have is drawn as a box; the words keep it.
            warnings.filterwarnings("ignore", r"Glyph \d+ .* missing", UserWarning)
            # Without metadata the same picture is the same bytes.
            figure.savefig(
                buffer,
                format="png",
                dpi=160,
                bbox_inches="tight",
                pad_inches=0.18,
                metadata={"Software": None},
            )
        self.png = buffer.getvalue()
        self._width = int.from_bytes(self.png[16:20], "big") // 2

    def save(self, path: str | Path) -> Path:
        """Write the picture as PNG, under a temporary name first, and return its path."""
        target = Path(path)
        partial = target.with_name(f".{target.name}.partial")
        partial.write_bytes(self.png)
        return partial.replace(target)

    def __repr__(self) -> str:
        return f"[figure] {self.alt}"

    def _repr_html_(self) -> str:
        """Return the picture with its alternative text; on white paper, for dark themes too."""
        data = base64.b64encode(self.png).decode()
        style = "max-width:100%;height:auto;background:#ffffff;border-radius:8px"
        source = f"data:image/png;base64,{data}"
        return f'<img alt="{markup(self.alt)}" width="{self._width}" style="{style}" src="{source}">'


def _canvas(wide: float, high: float) -> tuple[MplFigure, Axes]:
    """Return an empty figure that pyplot does not know, so that it shows once and is freed by itself."""
    figure = MplFigure(figsize=(wide, high), layout="constrained")
    return figure, figure.add_subplot()


def _vector(values: Any, name: str) -> NDArray[np.float64]:
    """Return values as a row of floats, missing ones as NaN."""
    try:
        array = np.asarray(values, dtype=object)
        result = np.array([np.nan if v is None or v is pd.NA else float(v) for v in array.ravel()])
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{name!r} holds a value that is no number: {error}", hint="pass numbers only"
        ) from error
    if not np.isfinite(result).any():
        raise DataError(f"{name!r} holds no number to draw", hint="pass at least one finite value")
    return result


def _named(values: Any, what: str) -> dict[str, Any]:
    """Return a mapping, a series or the columns of a frame as a dict by text name, or refuse."""
    if not isinstance(values, Mapping | pd.Series | pd.DataFrame):
        raise DataError(
            f"{what} is a {type(values).__name__}; expected a mapping from name to values", hint="pass a dict"
        )
    named = {printable(name): value for name, value in values.items()}
    if not named:
        raise DataError(f"{what} is empty", hint="pass at least one name with values")
    return named


def _apart(wanted: NDArray[np.float64], gap: float) -> NDArray[np.float64]:
    """Return positions near the wanted ones, in the same order, at least ``gap`` from each other."""
    order = np.argsort(wanted, kind="stable")
    placed = wanted[order].copy()
    for _ in range(4 * len(placed)):
        for upper in range(1, len(placed)):
            overlap = gap - (placed[upper] - placed[upper - 1])
            if overlap > 1e-9:
                placed[upper] += overlap / 2
                placed[upper - 1] -= overlap / 2
    result = np.empty_like(placed)
    result[order] = placed
    return result


def _words(alt: str | None, kind: str, title: str, facts: Sequence[str]) -> str:
    """Return the given words, or words made from the numbers."""
    return alt if alt is not None else f"{kind}: {title}. {'; '.join(facts)}."


def _positions(values: Any, count: int) -> NDArray[np.float64]:
    """Return where the points of a line stand: a numeric index of its own, else 1, 2, 3 and so on."""
    if isinstance(values, pd.Series) and pd.api.types.is_numeric_dtype(values.index):
        return values.index.to_numpy(dtype=np.float64)
    return np.arange(1, count + 1, dtype=np.float64)


def lines(
    series: Mapping[str, Any] | pd.DataFrame,
    *,
    title: str,
    ylabel: str,
    xlabel: str = "round",
    reference: Mapping[str, float] | None = None,
    alt: str | None = None,
) -> Figure:
    """Compare a number over rounds between several runs.

    Parameters
    ----------
    series : mapping of name to values, or DataFrame
        One line for each name, at most six. A pandas index of numbers gives the positions, else 1, 2, 3 ….
    title, ylabel, xlabel : str
        What is shown, and in which unit.
    reference : mapping of name to number, optional
        Levels to compare with, drawn across.
    alt : str, optional
        The picture in words; by default the first and the last value of each line.

    Raises
    ------
    DataError
        When there is nothing to draw, a value is no number, or there are more than six lines.
    """
    named = _named(series, "series")
    if len(named) > len(_COLOURS):
        raise DataError(
            f"{len(named)} lines in one figure; at most {len(_COLOURS)} can be told apart",
            hint="draw fewer lines, or several figures",
        )
    levels = dict(_named(reference, "reference")) if reference else {}
    facts, labels = [], []
    with mpl.rc_context(_STYLE):
        figure, axes = _canvas(7.6, 3.7)
        right = -np.inf
        for position, (name, values) in enumerate(named.items()):
            y = _vector(values, name)
            x = _positions(values, len(y))
            colour = _COLOURS[position]
            axes.plot(
                x,
                y,
                color=colour,
                linestyle=_DASHES[position],
                marker=_MARKERS[position],
                linewidth=1.9,
                markersize=6,
                markeredgecolor=_PAPER,
                markeredgewidth=0.9,
                markevery=max(1, len(y) // 12),
                clip_on=False,
                zorder=3,
            )
            seen = y[np.isfinite(y)]
            labels.append((float(seen[-1]), name, colour))
            facts.append(f"{name} from {plain(float(seen[0]))} to {plain(float(seen[-1]))}")
            right = max(right, float(x.max()))
        for name, level in levels.items():
            axes.axhline(float(level), color=_SOFT, linewidth=1.1, linestyle=(0, (4, 3)), zorder=2)
            labels.append((float(level), name, _SOFT))
            facts.append(f"{name} at {plain(float(level))}")
        axes.grid(axis="y")
        axes.margins(x=0.02, y=0.12)
        axes.spines["left"].set_visible(False)
        if right < 40:
            axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
        axes.set(title=printable(title), xlabel=printable(xlabel), ylabel=printable(ylabel))
        low, high = axes.get_ylim()
        # One line of text takes about a fourteenth of the height of the axes.
        heights = _apart(np.array([level for level, _, _ in labels]), (high - low) / 14)
        edge = axes.get_xlim()[1]
        for (_, name, colour), height in zip(labels, heights, strict=True):
            axes.annotate(
                name,
                (edge, float(height)),
                xytext=(8, 0),
                textcoords="offset points",
                color=colour,
                fontweight="bold",
                va="center",
                annotation_clip=False,
            )
        return Figure(figure, _words(alt, "Line chart", title, facts))


def bars(
    values: Mapping[str, Any] | pd.Series | pd.DataFrame,
    *,
    title: str,
    xlabel: str = "",
    form: Format = "plain",
    alt: str | None = None,
) -> Figure:
    """Compare amounts: one bar for each name, with its value beside it.

    Parameters
    ----------
    values : mapping of name to number, Series, or DataFrame
        A frame gives one group of bars for each row and one pattern for each column.
    title, xlabel : str
        What is shown, and in which unit.
    form : str or callable
        How values are written; see :func:`twopm_kit.display.table`.
    alt : str, optional
        The picture in words; by default all the values.

    Raises
    ------
    DataError
        When there is nothing to draw, a value is no number, or a frame has more than six columns.
    """
    write = formatter(form)
    if isinstance(values, pd.DataFrame):
        groups = [printable(name) for name in values.index]
        columns = {name: _vector(column, name) for name, column in _named(values, "values").items()}
    else:
        named = _named(values, "values")
        groups = list(named)
        columns = {"": _vector(list(named.values()), "values")}
    if len(columns) > len(_COLOURS):
        raise DataError(
            f"{len(columns)} columns of bars; at most {len(_COLOURS)} can be told apart",
            hint="draw fewer columns",
        )
    thick = 0.72 / len(columns)
    facts = []
    with mpl.rc_context(_STYLE):
        figure, axes = _canvas(7.6, 1.3 + 0.42 * len(groups) * max(1.0, 0.62 * len(columns)))
        for position, (name, numbers) in enumerate(columns.items()):
            where = np.arange(len(groups)) + (position - (len(columns) - 1) / 2) * thick
            shown = np.nan_to_num(numbers, nan=0.0)
            drawn = axes.barh(
                where,
                shown,
                height=thick * 0.9,
                color=_COLOURS[position],
                hatch=_HATCHES[position],
                edgecolor=_PAPER,
                linewidth=0,
                label=name,
            )
            texts = [write(None if np.isnan(number) else number) for number in numbers]
            axes.bar_label(drawn, labels=texts, padding=5, color=_INK, fontweight="bold")
            facts += [
                f"{group}{f' {name}' if name else ''} {t}" for group, t in zip(groups, texts, strict=True)
            ]
        axes.set_yticks(range(len(groups)), groups)
        axes.tick_params(axis="y", labelcolor=_INK)
        axes.invert_yaxis()
        axes.margins(x=0.14)
        axes.axvline(0, color="#9aa1ad", linewidth=1)
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.set_xticks([])
        axes.set(title=printable(title), xlabel=printable(xlabel))
        if len(columns) > 1:
            axes.legend(
                loc="lower left",
                bbox_to_anchor=(0, -0.02 - 0.55 / len(groups)),
                ncols=len(columns),
                frameon=False,
            )
        return Figure(figure, _words(alt, "Bar chart", title, facts))


def heat(
    vectors: Mapping[str, ArrayLike],
    *,
    title: str,
    xlabel: str = "position in the vector",
    alt: str | None = None,
) -> Figure:
    """Lay vectors under each other as strips of light and dark, for example an update in clear and masked.

    Each strip has its own scale, from its least value (dark) to its greatest (light), written at its end:
    what can be compared is the pattern, not the size.

    Parameters
    ----------
    vectors : mapping of name to numbers
        One strip for each name; whole numbers may be of any size, field elements too.
    title, xlabel : str
        What is shown.
    alt : str, optional
        The picture in words; by default the range of each strip.

    Raises
    ------
    DataError
        When there is nothing to draw or a value is no number.
    """
    named = {name: _vector(values, name) for name, values in _named(vectors, "vectors").items()}
    facts = []
    with mpl.rc_context(_STYLE):
        figure = MplFigure(figsize=(7.6, 0.95 + 0.62 * len(named)), layout="constrained")
        figure.suptitle(printable(title), x=0.005, ha="left", fontsize=12.5, fontweight="bold")
        grid = np.atleast_1d(figure.subplots(len(named), 1))
        for axes, (name, numbers) in zip(grid, named.items(), strict=True):
            seen = numbers[np.isfinite(numbers)]
            low, high = float(seen.min()), float(seen.max())
            spread = (high - low) or 1.0
            axes.imshow(
                ((numbers - low) / spread)[None, :],
                aspect="auto",
                cmap="cividis",
                vmin=0,
                vmax=1,
                interpolation="nearest",
            )
            axes.set_yticks([0], [name])
            axes.tick_params(axis="y", labelcolor=_INK, pad=6)
            axes.set_xticks([])
            axes.spines[:].set_visible(False)
            words = f"{plain(low)} … {plain(high)}"
            axes.annotate(
                words,
                (1, 0.5),
                xycoords="axes fraction",
                xytext=(8, 0),
                textcoords="offset points",
                va="center",
            )
            facts.append(f"{name}, {len(numbers)} values from {plain(low)} to {plain(high)}")
        grid[-1].set_xlabel(f"{printable(xlabel)}  (dark: least, light: greatest of each strip)")
        return Figure(figure, _words(alt, "Heat strips", title, facts))


def digits(
    images: Any,
    *,
    labels: Sequence[Any] | None = None,
    predictions: Sequence[Any] | None = None,
    title: str = "",
    alt: str | None = None,
) -> Figure:
    """Show small square images in a row or a grid, with what they are and what a model said.

    Parameters
    ----------
    images : DataFrame or array, shape (n, side²) or (n, side, side)
        Grey values, greatest = ink; at most 60 images. Of a frame, the columns named ``pixel_…`` are taken.
    labels, predictions : sequence of length n, optional
        The truth, and what a model said. A wrong answer gets a frame and the word "not".
    title, alt : str, optional
        A heading, and the picture in words.

    Raises
    ------
    DataError
        When the shapes do not fit or there are no images or more than 60.
    """
    if isinstance(images, pd.DataFrame):
        images = images[[name for name in images.columns if str(name).startswith("pixel_")]].to_numpy()
    pixels = np.asarray(images)
    count = len(pixels) if pixels.ndim in {2, 3} else 0
    side = round((pixels.size / count) ** 0.5) if count else 0
    if not 1 <= count <= 60 or side < 1 or side * side * count != pixels.size:
        raise DataError(
            f"images have shape {pixels.shape}; expected 1 to 60 square images",
            hint="pass (n, 64) or (n, 8, 8)",
        )
    for name, given in (("labels", labels), ("predictions", predictions)):
        if given is not None and len(given) != count:
            raise DataError(
                f"{len(given)} {name} for {count} images", hint=f"pass one of {name} for each image"
            )
    wide = min(count, 10)
    high = -(-count // wide)
    facts = []
    with mpl.rc_context(_STYLE):
        figure = MplFigure(figsize=(0.8 * wide, 1.12 * high + (0.35 if title else 0.0)), layout="constrained")
        if title:
            figure.suptitle(printable(title), x=0.005, ha="left", fontsize=12.5, fontweight="bold")
        for position, axes in enumerate(np.atleast_1d(figure.subplots(high, wide, squeeze=False).ravel())):
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
            if position >= count:
                continue
            axes.spines[:].set(visible=True, color=_GRID, linewidth=1.0)
            axes.imshow(pixels[position].reshape(side, side), cmap="Greys", interpolation="nearest")
            words, wrong = _caption(position, labels, predictions)
            axes.set_xlabel(
                words, color=_INK, fontsize=10, fontweight="bold" if wrong else "normal", labelpad=3
            )
            if wrong:
                axes.spines[:].set(color="#b3261e", linewidth=2.2)
            facts.append(words)
        named = [words for words in facts if words]
        return Figure(
            figure, _words(alt, f"{count} images", title or "in reading order", named or ["without labels"])
        )


def _caption(
    position: int, labels: Sequence[Any] | None, predictions: Sequence[Any] | None
) -> tuple[str, bool]:
    """Return the words under an image, and whether the model was wrong."""
    truth = None if labels is None else printable(list(labels)[position])
    said = None if predictions is None else printable(list(predictions)[position])
    if truth is None or said is None:
        return truth or said or "", False
    return (f"{said} ✓", False) if truth == said else (f"{truth}, not {said}", True)
