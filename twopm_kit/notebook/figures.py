"""Shows a matplotlib figure together with a text that says what can be seen in it."""

import base64
import io
from html import escape
from typing import TYPE_CHECKING, Final

from twopm_kit.errors import NotebookError
from twopm_kit.notebook._show import show

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHORTEST: Final = 20


def figure(drawing: "Figure", *, alt: str, dpi: int = 100) -> None:
    """Show a figure with its alternative text, and close it so that it does not appear a second time.

    Parameters
    ----------
    drawing : matplotlib.figure.Figure
        The figure.
    alt : str
        What can be seen in it, in a sentence of at least 20 characters; read aloud by screen readers and
        shown where images are not.
    dpi : int
        Dots per inch of the image.

    Raises
    ------
    NotebookError
        When the text is too short to say anything.
    """
    if len(alt.strip()) < _SHORTEST:
        raise NotebookError(
            f"the figure's alternative text is {alt!r}, expected a sentence",
            hint="say in words what the figure shows, with the numbers that matter",
        )
    from matplotlib import pyplot as plt

    image = io.BytesIO()
    drawing.savefig(image, format="png", dpi=dpi, bbox_inches="tight", metadata={"Software": None})
    plt.close(drawing)
    source = base64.b64encode(image.getvalue()).decode("ascii")
    show(
        f"[figure: {alt}]",
        f'<img alt="{escape(alt, quote=True)}" src="data:image/png;base64,{source}" style="max-width:100%">',
    )
