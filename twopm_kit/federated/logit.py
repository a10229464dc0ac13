"""Logistic regression over all nodes' rows by Newton's method, exact up to rounding."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import norm

from twopm_kit.errors import SchemaError, TaskError
from twopm_kit.federated.arguments import column_names, number
from twopm_kit.federated.result import FederatedResult, RunRecord
from twopm_kit.federated.statistics import exact_lanes, within
from twopm_kit.federated.task import Criteria, State, Task, Update, numeric
from twopm_kit.secagg import Decoded, RoundConfig

__all__ = ["LogitResult", "LogitTask"]

_INTERCEPT = "const"


class LogitTask(Task):
    """Logit model of a binary target, as if all rows were in one place.

    In each round every node sends the gradient, the Hessian and the log-likelihood of its rows at the
    current coefficients, masked; the sum over nodes is exactly what pooled rows would give, and one Newton
    step follows (Hosmer, Lemeshow and Sturdivant 2013, section 1.2 and 2.2).

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
    tolerance : float
        The fit ends when no coefficient has moved by more than this.
    max_rounds : int
        Most Newton steps.
    bound : float
        Largest absolute value of one entry of a node's statistics. A larger one is refused, never cut.
    wait_timeout, connection_timeout : float
        Seconds for each step of a round, and for nodes to join, on chains whose blocks have a rhythm.
    criteria : Criteria, optional
        Who may join.
    """

    needs_all_nodes = True

    def __init__(
        self,
        name: str,
        target: str,
        features: Sequence[str],
        *,
        min_clients: int = 2,
        max_clients: int = 50,
        intercept: bool = True,
        tolerance: float = 1e-6,
        max_rounds: int = 25,
        bound: float = 65_536.0,
        wait_timeout: float = 60.0,
        connection_timeout: float = 60.0,
        criteria: Criteria | None = None,
    ) -> None:
        super().__init__(
            name, max_rounds=max_rounds, min_clients=min_clients, max_clients=max_clients, criteria=criteria
        )
        self.target = target
        self.features = column_names("features", features)
        if target in self.features:
            raise TaskError(f"target {target!r} is also a feature", hint="take it out of the features")
        if intercept and _INTERCEPT in self.features:
            raise TaskError(
                f"a feature is called {_INTERCEPT!r}, as the intercept is",
                hint="rename the column, or pass intercept=False",
            )
        self.intercept = intercept
        self.tolerance = number("tolerance", tolerance)
        self.bound = number("bound", bound)
        self.wait_timeout = number("wait_timeout", wait_timeout)
        self.connection_timeout = number("connection_timeout", connection_timeout)

    @property
    def terms(self) -> list[str]:
        """Names of the coefficients, the constant first."""
        return [_INTERCEPT, *self.features] if self.intercept else self.features

    def round_config(self) -> RoundConfig:
        """Return 64-bit lanes, so that sums agree with pooled rows."""
        return exact_lanes(self, self.bound)

    def settings(self) -> dict[str, Any]:
        """Return what fixes the fit beside the code."""
        return {
            "target": self.target,
            "features": self.features,
            "intercept": self.intercept,
            "tolerance": self.tolerance,
            "bound": self.bound,
        }

    def initial_state(self) -> State:
        """Return zero coefficients; the other entries are filled by the rounds."""
        p = len(self.terms)
        return {
            "params": np.zeros(p),
            "covariance": np.full((p, p), np.nan),
            "loglike": np.array(np.nan),
            "rows": np.array(np.nan),
            "step": np.array(np.inf),
        }

    def update_size(self) -> int:
        """Return p + p(p+1)/2 + 2: gradient, upper triangle of the Hessian, log-likelihood, rows."""
        p = len(self.terms)
        return p + p * (p + 1) // 2 + 2

    def check(self, frame: pd.DataFrame) -> None:
        """Refuse rows with a missing column, a value that is no number, or another target than 0 and 1."""
        super().check(frame)
        self._matrix(frame)

    def local_update(self, state: State, frame: pd.DataFrame, round: int) -> Update:
        """Compute the statistics of a node's rows at the current coefficients."""
        del round
        x, y = self._matrix(frame)
        eta = x @ state["params"]
        mu = expit(eta)
        gradient = x.T @ (y - mu)
        hessian = (x * (mu * (1 - mu))[:, None]).T @ x
        loglike = np.sum(y * eta - np.logaddexp(0.0, eta))
        values = np.concatenate(
            [gradient, hessian[np.triu_indices(len(self.terms))], [loglike, float(len(y))]]
        )
        return Update(within(values, self.bound))

    def merge(self, state: State, aggregate: Decoded) -> State:
        """Take one Newton step with the summed statistics."""
        p = len(self.terms)
        total = aggregate.sum
        gradient, triangle = total[:p], total[p : p + p * (p + 1) // 2]
        hessian = np.zeros((p, p))
        hessian[np.triu_indices(p)] = triangle
        hessian += np.triu(hessian, 1).T
        # Rounding alone can move an eigenvalue by a step for each client and entry: below a hundred times
        # that, and below what float64 resolves, it cannot be told from zero.
        resolution = 100 * p * self.max_clients * aggregate.step + 1e-14 * float(np.trace(hessian))
        if not np.linalg.eigvalsh(hessian)[0] > resolution:
            raise TaskError(
                f"the Hessian of {self.terms} is singular over all nodes",
                hint="standardise; drop a feature that others determine, or that separates the classes",
            )
        covariance = np.linalg.inv(hessian)
        step = covariance @ gradient
        return {
            "params": state["params"] + step,
            "covariance": covariance,
            "loglike": np.array(total[-2]),
            "rows": np.array(np.round(total[-1])),
            "step": np.array(np.abs(step).max()),
        }

    def finished(self, state: State) -> bool:
        """Tell whether the last step was below the tolerance."""
        return bool(state["step"] <= self.tolerance)

    def result(self, state: State, record: RunRecord) -> "LogitResult":
        """Return the fit with its standard errors."""
        return LogitResult(self, state, record)

    def _matrix(self, frame: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        columns = numeric(frame, [*self.features, self.target])
        x, y = columns[:, :-1], columns[:, -1]
        if not np.isin(y, (0.0, 1.0)).all():
            others = sorted(set(y.tolist()) - {0.0, 1.0})[:3]
            raise SchemaError(
                f"target {self.target!r} holds {others}, only 0 and 1 are expected",
                hint="encode the two classes as 0 and 1",
            )
        return (np.column_stack([np.ones(len(x)), x]) if self.intercept else x), y


class LogitResult(FederatedResult):
    """A fitted logit model."""

    def __init__(self, task: LogitTask, state: State, record: RunRecord) -> None:
        super().__init__(task, state, record)
        self._terms = task.terms

    def __repr__(self) -> str:
        state = "converged" if self.converged else "NOT converged"
        return f"{super().__repr__()[:-1]}, {state}, {self.nobs} rows)"

    @property
    def converged(self) -> bool:
        """Whether the last Newton step was below the task's tolerance."""
        return self.task.finished(self.state)

    @property
    def params(self) -> pd.Series:
        """Coefficients by name."""
        return pd.Series(self.state["params"], index=self._terms, name="coef")

    @property
    def cov_params(self) -> pd.DataFrame:
        """Covariance of the coefficients: the inverse Hessian at the last step's start."""
        return pd.DataFrame(self.state["covariance"], index=self._terms, columns=self._terms)

    @property
    def bse(self) -> pd.Series:
        """Standard errors by name."""
        return pd.Series(np.sqrt(np.diag(self.state["covariance"])), index=self._terms, name="std err")

    @property
    def tvalues(self) -> pd.Series:
        """Coefficients over their standard errors."""
        return (self.params / self.bse).rename("z")

    @property
    def pvalues(self) -> pd.Series:
        """Two-sided p-values of the hypothesis that a coefficient is zero."""
        return pd.Series(2 * norm.sf(np.abs(self.tvalues)), index=self._terms, name="P>|z|")

    @property
    def llf(self) -> float:
        """Log-likelihood at the start of the last step."""
        return float(self.state["loglike"])

    @property
    def nobs(self) -> int:
        """Rows over all survivors of the last round."""
        return int(self.state["rows"])

    def conf_int(self, alpha: float = 0.05) -> pd.DataFrame:
        """Return the confidence intervals at level ``1 - alpha``."""
        reach = norm.ppf(1 - alpha / 2) * self.bse
        return pd.DataFrame({alpha / 2: self.params - reach, 1 - alpha / 2: self.params + reach})

    def summary(self) -> pd.DataFrame:
        """Return one row a coefficient: estimate, standard error, z, p and the 95 % interval."""
        table = pd.concat([self.params, self.bse, self.tvalues, self.pvalues, self.conf_int()], axis=1)
        return table.rename(columns={0.025: "[0.025", 0.975: "0.975]"})
