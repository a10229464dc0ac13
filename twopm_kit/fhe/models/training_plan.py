"""What an epoch of training will take, before anything is encrypted or opened."""

from twopm_kit.fhe.engine import Engine
from twopm_kit.fhe.layouts import COLUMNS
from twopm_kit.fhe.models.gradient import DEPTH, too_shallow
from twopm_kit.fhe.plan import Plan, Step, costs_of, fresh_bytes, key_bytes, result_bytes

__all__ = ["epoch_plan"]


def epoch_plan(engine: Engine, rows: int, width: int, classes: int = 1) -> Plan:
    """Plan one epoch with weights that the server sees.

    Parameters
    ----------
    engine : Engine
        Of a profile with at least four levels.
    rows, width, classes : int
        Rows, columns, and columns of labels.

    Returns
    -------
    Plan
        Seconds are the server's. ``bytes_up`` are the rows and labels, sent once; ``bytes_down`` the masked
        sums of the epoch.

    Raises
    ------
    ProfileError
        Too few levels.
    """
    if engine.profile.levels <= DEPTH:
        raise too_shallow(engine.profile.levels, engine.profile.name)
    costs, blocks = costs_of(engine), -(-rows // engine.slots)
    low, times, sums = 1, classes * blocks, classes * (width + 2)
    top = low + DEPTH

    def form(level: int) -> float:
        coded = classes * costs.total(level, constant=width)
        return coded + times * costs.total(level, times_plain=width, add=width, encode=1, rescale=1)

    square = times * costs.total(top - 1, square=1, relinearize=1, rescale=1)
    product = times * costs.total(top - 2, multiply=1, relinearize=1, rescale=1)
    opened = sums * (costs.total(low, encode=1, add_plain=1) + blocks * costs.total(low, multiply=1, add=1))
    steps = (
        Step("scores", "affine", top, times, form(top), spends=1),
        Step("their squares", "square", top - 1, times, square, spends=1),
        Step("their multiples", "affine", top - 1, times, form(top - 1), spends=1),
        Step("curve of the sigmoid", "multiply", top - 2, times, product, spends=1),
        Step("line of the sigmoid", "affine", top - 2, times, form(top - 2), spends=1),
        Step("sums of the gradient, masked", "sums", low, sums, opened),
    )
    return Plan(
        engine.profile.name,
        COLUMNS,
        steps,
        bytes_up=(width + classes) * blocks * fresh_bytes(engine),
        bytes_down=sums * result_bytes(engine, low, size=3),
        key_bytes=key_bytes(engine, 0),
    )
