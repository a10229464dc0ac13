"""Multinomial logistic regression over all nodes' rows: coefficients for every class but the base."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from twopm_kit.errors import SchemaError, TaskError
from twopm_kit.federated.newton import NewtonFit, NewtonTask
from twopm_kit.federated.result import RunRecord
from twopm_kit.federated.summary import Summary
from twopm_kit.federated.task import Criteria, State

__all__ = ["MNLogitResult", "MNLogitTask"]

Label = str | int
_MOST_CLASSES = 1_000


class MNLogitTask(NewtonTask):
    """Logit model of a target with three or more classes, as if all rows were in one place.

    Parameters
    ----------
    name : str
        Name for people.
    target : str
        Column of classes.
    features : sequence of str
        Numeric columns.
    classes : int or sequence of str or int
        The classes, the base class first; a number K stands for 0, 1, …, K-1. They are agreed on before
        anybody looks at rows: a node does not know which classes the others have.
    min_clients, max_clients, intercept, ridge, tolerance, max_rounds, bound
        As for ``LogitTask``.
    wait_timeout, connection_timeout, criteria
        As for ``LogitTask``.

    Notes
    -----
    Row i is of class k with log odds x_i·β_k against the base class (Agresti 2013, section 8.1).
    """

    def __init__(
        self,
        name: str,
        target: str,
        features: Sequence[str],
        classes: int | Sequence[Label],
        *,
        min_clients: int = 2,
        max_clients: int = 50,
        intercept: bool = True,
        ridge: float = 0.0,
        tolerance: float = 1e-7,
        max_rounds: int = 40,
        bound: float = 65_536.0,
        wait_timeout: float = 60.0,
        connection_timeout: float = 60.0,
        criteria: Criteria | None = None,
    ) -> None:
        self.classes = _labels(classes)
        super().__init__(
            name,
            target,
            features,
            len(self.classes),
            min_clients=min_clients,
            max_clients=max_clients,
            intercept=intercept,
            ridge=ridge,
            tolerance=tolerance,
            max_rounds=max_rounds,
            bound=bound,
            wait_timeout=wait_timeout,
            connection_timeout=connection_timeout,
            criteria=criteria,
        )

    def class_names(self) -> list[str]:
        """Return the classes as text, the base class first."""
        return [str(label) for label in self.classes]

    def result(self, state: State, record: RunRecord) -> "MNLogitResult":
        """Return the fit with its standard errors."""
        return MNLogitResult(self, state, record)

    def _codes(self, frame: pd.DataFrame) -> NDArray[np.int64]:
        if (frame.columns == self.target).sum() != 1:
            raise SchemaError(
                f"column {self.target!r} is not in the frame once; it has {list(frame.columns)}",
                hint="name the column that holds the classes",
            )
        codes = pd.Index(self.classes).get_indexer(pd.Index(frame[self.target]))
        if (codes < 0).any():
            unknown = frame[self.target][codes < 0].unique()[:3].tolist()
            raise SchemaError(
                f"target {self.target!r} holds {unknown}, only {self.classes} are expected",
                hint="name every class in classes=, as the frame spells it",
            )
        return codes.astype(np.int64)


def _labels(classes: int | Sequence[Label]) -> list[Label]:
    if isinstance(classes, int | np.integer) and not isinstance(classes, bool):
        if not 2 <= classes <= _MOST_CLASSES:  # before a list of them is made
            raise TaskError(f"classes is {classes}", hint=f"give a number from 2 to {_MOST_CLASSES}")
        found: list[Label] = list(range(int(classes)))
    elif isinstance(classes, str) or not hasattr(classes, "__iter__"):
        raise TaskError(f"classes is {classes!r}", hint="pass a list of labels, or their number")
    else:
        found = [int(label) if isinstance(label, np.integer) else label for label in classes]
    if len(found) < 2 or len(set(map(str, found))) != len(found):
        raise TaskError(f"classes is {found}", hint="name at least two classes, each of them once")
    if not all(isinstance(label, str | int) and not isinstance(label, bool) for label in found):
        raise TaskError(f"classes is {found}", hint="use texts or whole numbers as labels")
    return found


class MNLogitResult(NewtonFit):
    """A fitted multinomial logit model: features in rows, classes in columns, without the base class."""

    task: MNLogitTask
    _kind = "Multinomial logistic regression"

    def _frame(self, values: NDArray[np.float64]) -> pd.DataFrame:
        columns = pd.Index(self.task.classes[1:], name=self.task.target)
        return pd.DataFrame(values.reshape(len(columns), -1).T, index=self.task.terms, columns=columns)

    @property
    def _index(self) -> pd.MultiIndex:
        return pd.MultiIndex.from_product(
            [self.task.classes[1:], self.task.terms], names=[self.task.target, None]
        )

    @property
    def params(self) -> pd.DataFrame:
        """Coefficients: log odds against the base class."""
        return self._frame(self.state["params"])

    @property
    def cov_params(self) -> pd.DataFrame:
        """Covariance of the coefficients, class by class."""
        return pd.DataFrame(self.state["covariance"], index=self._index, columns=self._index)

    @property
    def bse(self) -> pd.DataFrame:
        """Standard errors."""
        return self._frame(self._errors())

    @property
    def tvalues(self) -> pd.DataFrame:
        """Coefficients over their standard errors."""
        return self._frame(self._z())

    @property
    def pvalues(self) -> pd.DataFrame:
        """Two-sided p-values of the hypothesis that a coefficient is zero."""
        return self._frame(self._p())

    def conf_int(self, alpha: float = 0.05) -> pd.DataFrame:
        """Return the confidence intervals at level ``1 - alpha``, one row a class and term."""
        lower, upper = self._interval(alpha)
        return pd.DataFrame({"lower": lower, "upper": upper}, index=self._index)

    def summary(self) -> Summary:
        """Return estimates, standard errors, z, p and 95 % intervals, one block a class."""
        return self._summary(self._index)

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the probability of every class for each row of a frame."""
        return pd.DataFrame(
            np.exp(self._log_probabilities(frame)), index=frame.index, columns=list(self.task.classes)
        )
