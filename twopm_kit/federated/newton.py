"""Maximum likelihood of logit models by Newton's method with step control, on sums over all nodes' rows."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import chi2, norm

from twopm_kit.errors import TaskError
from twopm_kit.federated.arguments import column_names, number, truth
from twopm_kit.federated.result import FederatedResult, RunRecord
from twopm_kit.federated.statistics import exact_lanes, exact_rounds, within
from twopm_kit.federated.summary import Summary
from twopm_kit.federated.task import Criteria, State, Task, Update, numeric
from twopm_kit.secagg import Decoded, RoundConfig

__all__ = ["INTERCEPT", "NewtonFit", "NewtonTask"]

INTERCEPT = "const"
_HALVINGS = 4
Vector = NDArray[np.float64]


class NewtonTask(Task):
    """What logit models of two and of more classes have in common.

    In each round every node sends gradient, Hessian and log-likelihood of its rows at the current
    coefficients, the rows in each class, and how many rows the current coefficients put into a wrong class,
    masked. The sums are exactly what pooled rows would give, and a Newton step follows (Hosmer, Lemeshow and
    Sturdivant 2013, sections 1.2 and 2.2).

    Notes
    -----
    Coefficients are one vector, class by class, the first class being the base. A step of Newton's method is
    controlled in three ways, by rules that every node applies for itself to public sums:

    - If the log-likelihood falls, the step is halved; after four halvings in a row the last good point is
      measured again, so that one wrong sum cannot make all later ones look bad.
    - The step is shortened until its Newton decrement g'H⁻¹g is at most K - 1 times the number of rows. From
      zero coefficients no honest step is longer: each row has (y - p)'W⁻¹(y - p) = 1 / p_y - 1 = K - 1.
    - Sums that no rows can give (a positive log-likelihood, a negative count) are void.
    """

    needs_all_nodes = True

    def __init__(
        self,
        name: str,
        target: str,
        features: Sequence[str],
        classes: int,
        *,
        min_clients: int,
        max_clients: int,
        intercept: bool,
        ridge: float,
        tolerance: float,
        max_rounds: int,
        bound: float,
        wait_timeout: float,
        connection_timeout: float,
        criteria: Criteria | None,
    ) -> None:
        super().__init__(
            name, max_rounds=max_rounds, min_clients=min_clients, max_clients=max_clients, criteria=criteria
        )
        self.target = target
        self.features = column_names("features", features)
        self.intercept = truth("intercept", intercept)
        if target in self.features:
            raise TaskError(f"target {target!r} is also a feature", hint="take it out of the features")
        if self.intercept and INTERCEPT in self.features:
            raise TaskError(
                f"a feature is called {INTERCEPT!r}, as the intercept is",
                hint="rename the column, or pass intercept=False",
            )
        self.ridge = _penalty(ridge)
        self.tolerance = number("tolerance", tolerance)
        self.bound = number("bound", bound)
        self.wait_timeout = number("wait_timeout", wait_timeout)
        self.connection_timeout = number("connection_timeout", connection_timeout)
        self._classes = classes

    @property
    def terms(self) -> list[str]:
        """Names of the coefficients of one class, the constant first."""
        return [INTERCEPT, *self.features] if self.intercept else self.features

    @abstractmethod
    def class_names(self) -> list[str]:
        """Return the classes as text, the base class first."""

    @abstractmethod
    def _codes(self, frame: pd.DataFrame) -> NDArray[np.int64]:
        """Return the class number of each row, or say which value of the target is none."""

    # The task -----------------------------------------------------------------------------------------

    def round_config(self) -> RoundConfig:
        """Return 64-bit lanes, so that sums agree with pooled rows."""
        return exact_lanes(self, self.bound)

    def adapted(self, own: RoundConfig, wanted: RoundConfig) -> RoundConfig:
        """Keep the encoding, whatever a network wants: cut or rounded sums would be silently wrong."""
        return exact_rounds(own, wanted)

    def settings(self) -> dict[str, Any]:
        """Return what fixes the fit beside the code."""
        return {
            "target": self.target,
            "features": self.features,
            "classes": self.class_names(),
            "intercept": self.intercept,
            "ridge": self.ridge,
            "tolerance": self.tolerance,
            "bound": self.bound,
        }

    def initial_state(self) -> State:
        """Return zero coefficients; the other entries are filled by the rounds."""
        size = self._size
        return {
            "params": np.zeros(size),
            "base": np.zeros(size),
            "direction": np.zeros(size),
            "scale": np.array(1.0),
            "halvings": np.array(0.0),
            "objective": np.array(np.nan),
            "covariance": np.full((size, size), np.nan),
            "loglike": np.array(np.nan),
            "counts": np.full(self._classes, np.nan),
            "excess": np.array(np.inf),
        }

    def update_size(self) -> int:
        """Return q + q(q+1)/2 + 2 + K for q coefficients and K classes."""
        return self._size + self._size * (self._size + 1) // 2 + 2 + self._classes

    def check(self, frame: pd.DataFrame) -> None:
        """Refuse rows with a missing column, a value that is no number, or an unknown class."""
        super().check(frame)
        self.design(frame)
        self._codes(frame)

    def design(self, frame: pd.DataFrame) -> Vector:
        """Return the features of a frame as a matrix, with the constant in front."""
        x = numeric(frame, self.features)
        return np.column_stack([np.ones(len(x)), x]) if self.intercept else x

    def log_probabilities(self, params: Vector, x: Vector) -> Vector:
        """Return the log-probability of every class, shape (rows, classes)."""
        eta = np.column_stack([np.zeros(len(x)), x @ params.reshape(self._classes - 1, -1).T])
        found: Vector = eta - logsumexp(eta, axis=1, keepdims=True)
        return found

    def local_update(self, state: State, frame: pd.DataFrame, round: int) -> Update:
        """Compute the statistics of a node's rows at the current coefficients."""
        del round
        x, codes = self.design(frame), self._codes(frame)
        logs = self.log_probabilities(state["params"], x)
        own = logs[np.arange(len(codes)), codes]
        others = logs.copy()
        others[np.arange(len(codes)), codes] = -np.inf
        wrong = float(np.count_nonzero(own <= others.max(axis=1)))
        p = np.exp(logs[:, 1:])
        y = codes[:, None] == np.arange(1, self._classes)
        gradient = ((y - p).T @ x).ravel()
        weights = p[:, :, None] * (np.eye(p.shape[1]) - p[:, None, :])
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is beyond the bound, below
            blocks = np.einsum("nab,ni,nj->aibj", weights, x, x, optimize=True)
        triangle = blocks.reshape(self._size, self._size)[np.triu_indices(self._size)]
        # Cut where it only says "far worse": a throw of the coefficients must not silence honest nodes.
        loglike = max(float(own.sum()), -self.bound)
        counts = np.bincount(codes, minlength=self._classes).astype(np.float64)
        return Update(within(np.concatenate([gradient, triangle, [loglike, wrong], counts]), self.bound))

    def merge(self, state: State, aggregate: Decoded) -> State:
        """Take one controlled Newton step with the summed statistics."""
        gradient, hessian, loglike, wrong, counts = self._parts(aggregate)
        rounding = aggregate.weight * aggregate.step
        if loglike > rounding or wrong < 0 or counts.min() < 0 or counts.sum() < 1:
            raise TaskError(
                "the sums of this round cannot come from rows", hint="find the node that does not compute"
            )
        free = np.tile([not (self.intercept and i == 0) for i in range(len(self.terms))], self._classes - 1)
        penalty = self.ridge * free
        params = state["params"]
        objective = loglike - 0.5 * float(penalty @ params**2)
        slack = 10 * rounding + 1e-10 * abs(objective)
        # Other survivors have another likelihood: only the same rows can be compared.
        if np.array_equal(counts, state["counts"]) and objective < float(state["objective"]) - slack:
            return self._shorter(state)
        self._demand_classes(counts)
        self._demand_regular(state, hessian + np.diag(penalty), rounding)
        if wrong == 0 and self.ridge == 0:
            raise TaskError(
                f"the features separate the classes of {self.target!r} perfectly: every row is told right, "
                "and larger coefficients are always better",
                hint="drop a feature, bring more rows, or pass ridge=1.0",
            )
        inverse = np.linalg.inv(hessian + np.diag(penalty))
        direction = inverse @ (gradient - penalty * params)
        decrement = float(direction @ (gradient - penalty * params))
        longest = (self._classes - 1) * counts.sum()
        direction *= min(1.0, np.sqrt(longest / decrement)) if decrement > 0 else 1.0
        scale = min(1.0, 2 * float(state["scale"]))
        # Below what rounding of the sums alone can move, a step says nothing; but if that is not small beside
        # the standard errors, the fit has not converged.
        floor = float((np.abs(inverse) * rounding).sum(axis=1).max())
        floor = floor if floor <= 1e-3 * float(np.sqrt(np.diag(inverse)).min()) else 0.0
        moved = float(np.abs(scale * direction).max())
        return {
            "params": params + scale * direction,
            "base": params,
            "direction": direction,
            "scale": np.array(scale),
            "halvings": np.array(0.0),
            "objective": np.array(objective),
            "covariance": inverse @ hessian @ inverse if self.ridge else inverse,
            "loglike": np.array(loglike),
            "counts": counts,
            "excess": np.array(moved - max(self.tolerance, floor)),
        }

    def finished(self, state: State) -> bool:
        """Tell whether the last step was below the tolerance, or below what rounding can tell."""
        return bool(state["excess"] <= 0)

    # Parts --------------------------------------------------------------------------------------------

    @property
    def _size(self) -> int:
        return len(self.terms) * (self._classes - 1)

    def _parts(self, aggregate: Decoded) -> tuple[Vector, Vector, float, float, Vector]:
        q, total = self._size, aggregate.sum
        rows, columns = np.triu_indices(q)
        hessian = np.zeros((q, q))
        hessian[rows, columns] = hessian[columns, rows] = total[q : q + len(rows)]
        loglike, wrong, *counts = total[q + len(rows) :].tolist()
        return total[:q], hessian, loglike, float(np.round(wrong)), np.round(np.array(counts))

    def _shorter(self, state: State) -> State:
        """Go back half of the way; after some halvings measure the last good point again."""
        halvings, scale = float(state["halvings"]) + 1, float(state["scale"]) / 2
        if halvings > _HALVINGS:
            fresh = {"halvings": np.array(0.0), "objective": np.array(np.nan), "params": state["base"]}
        else:
            fresh = {
                "halvings": np.array(halvings),
                "params": state["base"] + scale * state["direction"],
            }
        return {**state, **fresh, "scale": np.array(scale), "excess": np.array(np.inf)}

    def _demand_classes(self, counts: Vector) -> None:
        empty = [name for name, count in zip(self.class_names(), counts, strict=True) if count == 0]
        if empty:
            raise TaskError(
                f"no row over all nodes has {self.target!r} = {' or '.join(empty)}",
                hint="bring rows of every class: one that nobody has cannot be told from the others",
            )

    def _demand_regular(self, state: State, hessian: Vector, rounding: float) -> None:
        """Refuse a Hessian that cannot be told from a singular one, and name the features behind it."""
        size, names = np.diag(hessian), np.array(self.terms * (self._classes - 1))
        if size.min() > self._size * rounding:
            values, vectors = np.linalg.eigh(hessian / np.sqrt(np.outer(size, size)))
            if values[0] > 1e-12 + 10 * self._size * rounding / size.min():
                return
            loads = np.abs(vectors[:, 0])
            guilty = _distinct(names[loads > 0.05 * loads.max()])
            fault = f"{_listed(guilty)} determine each other over all nodes"
            if self.intercept and len(guilty) == 2 and INTERCEPT in guilty:
                fault = f"column {_listed([n for n in guilty if n != INTERCEPT])} is constant over all nodes"
        else:
            guilty = _distinct(names[size <= self._size * rounding])
            fault = f"{_listed(guilty)} is zero in every row of every node"
        if np.isfinite(state["covariance"]).all():
            # Features that were independent in the first round only become dependent as weights vanish.
            fault = f"{_listed(guilty)} separate the classes of {self.target!r} perfectly, or nearly so"
        raise TaskError(
            f"{fault}: the Hessian is singular, and no finite fit is best",
            hint="drop a feature, standardise the others, or pass ridge=1.0",
        )


def _penalty(ridge: Any) -> float:
    if isinstance(ridge, int | float) and ridge == 0:
        return 0.0
    return number("ridge", ridge)


def _distinct(names: Any) -> list[str]:
    return list(dict.fromkeys(str(name) for name in names))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))


class NewtonFit(FederatedResult):
    """What fits of two and of more classes have in common."""

    task: NewtonTask

    def __init__(self, task: NewtonTask, state: State, record: RunRecord) -> None:
        super().__init__(task, state, record)
        self.task = task

    def __repr__(self) -> str:
        state = "converged" if self.converged else "NOT converged"
        return f"{super().__repr__()[:-1]}, {state}, {self.nobs} rows)"

    @property
    def converged(self) -> bool:
        """Whether the last Newton step was below the task's tolerance."""
        return self.task.finished(self.state)

    @property
    def llf(self) -> float:
        """Log-likelihood at the start of the last step."""
        return float(self.state["loglike"])

    @property
    def llnull(self) -> float:
        """Log-likelihood of the model that knows the classes' shares and nothing else."""
        counts = self.state["counts"]
        return float(counts @ np.log(counts / counts.sum()))

    @property
    def prsquared(self) -> float:
        """McFadden's pseudo R-squared, ``1 - llf / llnull``."""
        return 1 - self.llf / self.llnull

    @property
    def llr(self) -> float:
        """Likelihood ratio statistic against the null model."""
        return 2 * (self.llf - self.llnull)

    @property
    def llr_pvalue(self) -> float:
        """p-value of the likelihood ratio statistic."""
        return float(chi2.sf(self.llr, self.df_model))

    @property
    def df_model(self) -> int:
        """Coefficients without the constants."""
        return len(self.state["params"]) - self.task.intercept * (len(self.state["counts"]) - 1)

    @property
    def df_resid(self) -> int:
        """Rows less coefficients."""
        return self.nobs - len(self.state["params"])

    @property
    def aic(self) -> float:
        """Akaike's information criterion."""
        return 2 * len(self.state["params"]) - 2 * self.llf

    @property
    def bic(self) -> float:
        """Schwarz's information criterion."""
        return float(np.log(self.nobs)) * len(self.state["params"]) - 2 * self.llf

    @property
    def nobs(self) -> int:
        """Rows over all survivors of the last round."""
        return int(self.state["counts"].sum())

    def _errors(self) -> Vector:
        found: Vector = np.sqrt(np.diag(self.state["covariance"]))
        return found

    def _z(self) -> Vector:
        found: Vector = self.state["params"] / self._errors()
        return found

    def _p(self) -> Vector:
        found: Vector = 2 * norm.sf(np.abs(self._z()))
        return found

    def _interval(self, alpha: float) -> tuple[Vector, Vector]:
        if not isinstance(alpha, int | float) or not 0 < alpha < 1:
            raise TaskError(f"alpha is {alpha!r}", hint="give a level between 0 and 1, such as 0.05")
        reach = norm.ppf(1 - alpha / 2) * self._errors()
        return self.state["params"] - reach, self.state["params"] + reach

    def _summary(self, index: pd.Index) -> Summary:
        lower, upper = self._interval(0.05)
        table = pd.DataFrame(
            {
                "coef": self.state["params"],
                "std err": self._errors(),
                "z": self._z(),
                "P>|z|": self._p(),
                "[0.025": lower,
                "0.975]": upper,
            },
            index=index,
        )
        done = [r for r in self.rounds if r.status == "done"]
        facts = [
            ("model", self.task.name),
            ("rows", f"{self.nobs:,}"),
            ("nodes", str(len(done[-1].survivors))),
            ("rounds", str(len(done))),
            ("converged", "yes" if self.converged else "NO"),
            ("log-likelihood", f"{self.llf:.4f}"),
            ("of the null model", f"{self.llnull:.4f}"),
            ("pseudo R²", f"{self.prsquared:.4f}"),
            ("likelihood ratio, p", f"{self.llr_pvalue:.3g}"),
            ("AIC", f"{self.aic:.2f}"),
        ]
        return Summary(table, f"{self._kind} of {self.task.target}", facts, self._notes())

    _kind = "Logistic regression"

    def _notes(self) -> list[str]:
        notes = []
        if not self.converged:
            notes.append("Not converged: raise max_rounds, standardise the features, or pass ridge=1.0.")
        if self.task.ridge:
            notes.append(
                f"Shrunk by ridge={self.task.ridge:g}: estimates are biased towards zero; "
                "the errors are of their sampling alone."
            )
        if np.abs(self.state["params"]).max() > 0 and self._errors().max() > 1e3:
            notes.append("Huge standard errors: the features nearly determine each other, or the classes.")
        return notes

    def _log_probabilities(self, frame: pd.DataFrame) -> Vector:
        return self.task.log_probabilities(self.state["params"], self.task.design(frame))
