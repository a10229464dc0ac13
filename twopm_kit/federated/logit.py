"""Logistic regression over all nodes' rows by Newton's method, exact up to rounding."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from twopm_kit.errors import SchemaError, TaskError
from twopm_kit.federated.arguments import number
from twopm_kit.federated.newton import NewtonFit, NewtonTask
from twopm_kit.federated.result import RunRecord
from twopm_kit.federated.summary import Summary
from twopm_kit.federated.task import Criteria, State, numeric

__all__ = ["LogitResult", "LogitTask"]


class LogitTask(NewtonTask):
    """Logit model of a binary target, as if all rows were in one place.

    Parameters
    ----------
    name : str
        Name for people.
    target : str
        Column of zeros and ones.
    features : sequence of str
        Numeric columns.
    min_clients, max_clients : int
        Fewest survivors of a round, and most members.
    intercept : bool
        Whether a constant, named ``const``, is fitted.
    ridge : float
        Half of this times the sum of squared coefficients, the constant's apart, is taken off the
        log-likelihood of all rows (le Cessie and van Houwelingen 1992). It gives separated classes a finite
        fit; scale the features first.
    tolerance : float
        The fit ends when no coefficient has moved by more than this.
    max_rounds : int
        Most Newton steps, halved ones included.
    bound : float
        Largest absolute value of one entry of a node's statistics. A larger one is refused, never cut.
    wait_timeout, connection_timeout : float
        Seconds for each step of a round, and for nodes to join, on chains whose blocks have a rhythm.
    enable_verify : bool
        Must be False: there is no zero-knowledge proof that a node's sums belong to its committed rows.
    verify_timeout : float
        Seconds for such a proof; without ``enable_verify`` nobody waits.
    criteria : Criteria, optional
        Who may join.

    Raises
    ------
    TaskError
        If the arguments contradict each other, or ``enable_verify`` is asked for.

    Examples
    --------
    >>> task = LogitTask("grades", target="GRADE", features=["GPA", "TUCE", "PSI"])
    >>> LocalNetwork(frame, n_nodes=3).run(task).summary()
    """

    def __init__(
        self,
        name: str,
        target: str,
        features: Sequence[str],
        *,
        min_clients: int = 2,
        max_clients: int = 50,
        intercept: bool = True,
        ridge: float = 0.0,
        tolerance: float = 1e-7,
        max_rounds: int = 25,
        bound: float = 65_536.0,
        wait_timeout: float = 60.0,
        connection_timeout: float = 60.0,
        verify_timeout: float = 60.0,
        enable_verify: bool = False,
        criteria: Criteria | None = None,
    ) -> None:
        if enable_verify:
            raise TaskError(
                "enable_verify asks for a zero-knowledge proof of each node's gradient, which the kit does "
                "not have; it verifies that the sum is that of the vectors which were committed to on chain, "
                "not how a node came by its vector",
                hint="leave enable_verify out, and keep strangers out with criteria=Criteria(allow_list=...)",
            )
        super().__init__(
            name,
            target,
            features,
            2,
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
        self.verify_timeout = number("verify_timeout", verify_timeout)

    def class_names(self) -> list[str]:
        """Return the two classes."""
        return ["0", "1"]

    def result(self, state: State, record: RunRecord) -> "LogitResult":
        """Return the fit with its standard errors."""
        return LogitResult(self, state, record)

    def _codes(self, frame: pd.DataFrame) -> NDArray[np.int64]:
        y = numeric(frame, [self.target])[:, 0]
        if not np.isin(y, (0.0, 1.0)).all():
            others = sorted(set(y.tolist()) - {0.0, 1.0})[:3]
            raise SchemaError(
                f"target {self.target!r} holds {others}, only 0 and 1 are expected",
                hint="encode the two classes as 0 and 1",
            )
        return y.astype(np.int64)


class LogitResult(NewtonFit):
    """A fitted logit model, with the names that statsmodels uses."""

    def _series(self, values: NDArray[np.float64], name: str) -> pd.Series:
        return pd.Series(values, index=self.task.terms, name=name)

    @property
    def params(self) -> pd.Series:
        """Coefficients by name."""
        return self._series(self.state["params"], "coef")

    @property
    def cov_params(self) -> pd.DataFrame:
        """Covariance of the coefficients: the inverse Hessian at the last step's start.

        With ridge it is the sampling covariance of the shrunk estimates, which are biased towards zero.
        """
        return pd.DataFrame(self.state["covariance"], index=self.task.terms, columns=self.task.terms)

    @property
    def bse(self) -> pd.Series:
        """Standard errors by name."""
        return self._series(self._errors(), "std err")

    @property
    def tvalues(self) -> pd.Series:
        """Coefficients over their standard errors."""
        return self._series(self._z(), "z")

    @property
    def pvalues(self) -> pd.Series:
        """Two-sided p-values of the hypothesis that a coefficient is zero."""
        return self._series(self._p(), "P>|z|")

    def conf_int(self, alpha: float = 0.05) -> pd.DataFrame:
        """Return the confidence intervals at level ``1 - alpha``."""
        lower, upper = self._interval(alpha)
        return pd.DataFrame({alpha / 2: lower, 1 - alpha / 2: upper}, index=self.task.terms)

    def summary(self) -> Summary:
        """Return estimates, standard errors, z, p and 95 % intervals, as a frame that shows the whole fit."""
        return self._summary(pd.Index(self.task.terms))

    def predict(self, frame: pd.DataFrame) -> pd.Series:
        """Return the probability of 1 for each row of a frame."""
        return pd.Series(
            np.exp(self._log_probabilities(frame)[:, 1]), index=frame.index, name=self.task.target
        )
