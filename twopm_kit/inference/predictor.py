"""``Predictor``: a finished logistic model that answers in clear and on ciphertexts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import Any, Final

import numpy as np
import pandas as pd
from eth_hash.auto import keccak
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from twopm_kit.errors import CiphertextError, InferenceError
from twopm_kit.fhe import EncryptedFrame, LogisticRegression
from twopm_kit.fhe.frames import Chunk, Column
from twopm_kit.inference.card import ModelCard, Scaler, same_columns

__all__ = ["THRESHOLD", "Predictor", "classify", "probabilities"]

#: A row belongs to class 1 when its probability is at least this.
THRESHOLD: Final = 0.5
_EXPECTED: Final = (
    "expected one linear layer with one output: a weight of shape (1, d) and a bias of shape (1,)"
)


def probabilities(scores: ArrayLike) -> NDArray[np.float64]:
    """Return the probabilities of class 1 that belong to scores (log-odds), of the same shape."""
    return np.asarray(expit(np.asarray(scores, dtype=np.float64)))


def classify(probability: ArrayLike) -> NDArray[np.int64]:
    """Return classes 0 and 1: the probability against `THRESHOLD`, and nothing else."""
    return (np.asarray(probability, dtype=np.float64) >= THRESHOLD).astype(np.int64)


class Predictor:
    """A logistic model: the probability of class 1 is ``sigmoid(z @ coef + intercept)``.

    ``z`` are the features, standardised when the model has a scaler.

    Parameters
    ----------
    coef : array-like of shape (d,) or (1, d)
        Weights.
    intercept : float, or array-like with one number
        Offset.
    features : sequence of str
        Names of the d columns, in the order of the weights.
    scaler : (mean, std), optional
        What the training data was standardised with, each of shape (d,). `predict` then takes raw values.
    name : str
        Name for people.

    Raises
    ------
    InferenceError
        Shapes do not fit each other, or a number is not finite.

    Examples
    --------
    >>> import pandas as pd
    >>> model = Predictor([1.0, -2.0], 0.5, features=["a", "b"])
    >>> model.predict(pd.DataFrame({"a": [1.0, 0.0], "b": [0.0, 1.0]})).tolist()
    [1, 0]
    """

    def __init__(
        self,
        coef: ArrayLike,
        intercept: ArrayLike = 0.0,
        *,
        features: Sequence[str],
        scaler: Scaler | None = None,
        name: str = "logistic model",
    ) -> None:
        self.card: Final = ModelCard.of(features, scaler)
        weights, offset = _finite(coef, "coef"), _finite(intercept, "intercept")
        row = weights.ndim == 1 or (weights.ndim == 2 and weights.shape[0] == 1)
        if not row or weights.size == 0 or offset.size != 1:
            raise _shapes(weights, offset)
        if weights.size != len(self.card.features):
            raise InferenceError(
                f"the model has {weights.size} weights, {len(self.card.features)} features were named",
                hint="name the training columns, one for each weight, in their order",
            )
        self._coef = weights.reshape(-1).copy()
        self._coef.setflags(write=False)
        self.intercept: Final = float(offset.reshape(-1)[0])
        self.name: Final = str(name)
        self._encrypted = LogisticRegression.from_plain(self._coef, self.intercept, self.card.columns)

    @classmethod
    def from_result(
        cls,
        result: Any,
        features: Sequence[str] | None = None,
        *,
        scaler: Scaler | None = None,
        name: str = "",
    ) -> "Predictor":
        """Take the model of a finished federated task.

        Parameters
        ----------
        result : FederatedResult, or mapping of str to array
            Its ``state`` must be one linear layer with one output, trained with a logistic loss; or it is the
            result of a ``LogitTask``.
        features : sequence of str, optional
            Names of the columns, in the order of training; needed unless the task knows them.
        scaler : (mean, std), optional
            What the training data was standardised with.
        name : str
            Name for people; the task's by default.

        Raises
        ------
        InferenceError
            The model is not a logistic one: says what was found.
        """
        task = getattr(result, "task", None)
        known = getattr(task, "features", None)
        if isinstance(getattr(result, "params", None), pd.Series):
            coef, intercept, own = _from_logit(result)
            if features is not None and list(features) != own:
                raise InferenceError(
                    f"features {list(features)[:5]} were named, the logit model was fitted on {own[:5]}",
                    hint="leave features out: this result knows them",
                )
            features = own
        else:
            state = result if isinstance(result, Mapping) else getattr(result, "state", None)
            if not isinstance(state, Mapping):
                raise InferenceError(
                    f"a {type(result).__name__} was passed; expected a finished federated result",
                    hint="pass what network.run(task) returned, or use Predictor(coef, intercept, ...)",
                )
            coef, intercept = _from_layer(state)
            features = list(known) if features is None and isinstance(known, list | tuple) else features
        if features is None:
            raise InferenceError(
                f"the result does not say which {np.size(coef)} columns it was trained on",
                hint="pass features=[...] in the order of training",
            )
        title = name or getattr(task, "name", "") or "logistic model"
        return cls(coef, intercept, features=features, scaler=scaler, name=title)

    @property
    def coef(self) -> NDArray[np.float64]:
        """Weights, shape (d,), read-only."""
        return self._coef

    @property
    def features(self) -> list[str]:
        """Names of the columns, in the order of the weights."""
        return list(self.card.features)

    @property
    def model_hash(self) -> bytes:
        """keccak256 of card, weights and intercept: names the model on chain without showing it."""
        numbers = np.append(self._coef, self.intercept).astype("<f8").tobytes()
        return bytes(keccak(b"2PM logistic model 1\x00" + keccak(self.card.to_bytes()) + numbers))

    # In clear -----------------------------------------------------------------------------------------

    def decision_function(self, frame: pd.DataFrame) -> "pd.Series[float]":
        """Return the scores (log-odds) of n rows of raw values."""
        values = self.card.standardise(self.card.matrix(frame))
        return pd.Series(values @ self._coef + self.intercept, index=frame.index, name="score")

    def predict_proba(self, frame: pd.DataFrame) -> "pd.Series[float]":
        """Return the probability of class 1 for each row.

        Parameters
        ----------
        frame : DataFrame
            n rows, exactly the model's columns in any order, raw values.

        Returns
        -------
        Series of float64
            Named "probability", with the frame's index.

        Raises
        ------
        SchemaError
            Names the column and row that are wrong.
        """
        return pd.Series(probabilities(self.decision_function(frame)), index=frame.index, name="probability")

    def predict(self, frame: pd.DataFrame) -> "pd.Series[int]":
        """Return the class of each row, 1 where the probability is at least 0.5. Arguments as above."""
        return pd.Series(classify(self.predict_proba(frame)), index=frame.index, name="class")

    # On ciphertexts -----------------------------------------------------------------------------------

    def prepare(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return what a client encrypts: the frame checked, in order, and standardised if the model is."""
        return self.card.prepare(frame)

    def predict_encrypted(self, enc: EncryptedFrame) -> EncryptedFrame:
        """Compute encrypted scores. Needs no key, secret or public: what a frame carries is enough.

        Parameters
        ----------
        enc : EncryptedFrame
            n rows, encrypted from `prepare`'s result.

        Returns
        -------
        EncryptedFrame
            n rows × 1 column "score", under the key of whoever encrypted.

        Raises
        ------
        SchemaError
            The columns are not the model's.
        CiphertextError
            Not an encrypted frame, no level left, or values too large for the profile.
        """
        if not isinstance(enc, EncryptedFrame):
            raise CiphertextError(
                f"a {type(enc).__name__} was passed; expected an EncryptedFrame",
                hint="encrypt on the client's side: holder.encrypt(predictor.prepare(frame))",
            )
        columns = self.card.columns
        hint = "encrypt what predictor.prepare(frame) returns"
        same_columns(enc.columns, columns, hint=hint)
        if enc.source != "frame":  # an array's columns are called x0, x1, …: the names would say nothing
            raise CiphertextError("an encrypted array was passed; expected an encrypted frame", hint=hint)
        return _coarse(self._encrypted.decision_function(enc))

    def __repr__(self) -> str:
        scaled = ", standardises" if self.card.mean is not None else ""
        return (
            f"<Predictor {self.name!r}: {len(self._coef)} features, intercept {self.intercept:.4g}{scaled}>"
        )

    def _repr_html_(self) -> str:
        table = pd.DataFrame({"feature": self.features, "coefficient": self._coef})
        order = table["coefficient"].abs().sort_values(ascending=False).index
        body = table.loc[order].to_html(border=0, index=False, max_rows=12, float_format=lambda v: f"{v:.4f}")
        return f"<p><strong>{escape(repr(self))}</strong></p>{body}"


def _coarse(scores: EncryptedFrame) -> EncryptedFrame:
    """Round the public bound and noise of scores up to powers of two.

    Both are sums over |weight| times numbers that the client chooses: exact, they would tell it the weights
    for the price of a few rows. The scale leaves a bit to spare, so that a larger bound still fits.
    """
    columns = tuple(
        Column(
            replace(head, bound=_power_of_two(head.bound), noise=_power_of_two(head.noise)),
            tuple(Chunk(cipher=cipher) for cipher in scores.ciphers(head.name)),
        )
        for head in scores.heads
    )
    return EncryptedFrame(
        scores.engine,
        scores.fingerprint,
        columns,
        n_rows=scores.n_rows,
        level=scores.level,
        packing=scores.packing,
        source=scores.source,
    )


def _power_of_two(value: float) -> float:
    return 2.0 ** math.ceil(math.log2(value))


def _from_logit(result: Any) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
    terms = [str(term) for term in result.params.index]
    values = np.asarray(result.params, dtype=np.float64)
    if getattr(result.task, "intercept", False):  # the constant comes first
        return values[1:], values[:1], terms[1:]
    return values, np.zeros(1), terms


def _from_layer(state: Mapping[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    arrays = {str(name): np.asarray(value) for name, value in state.items()}
    weights = {name: a for name, a in arrays.items() if a.ndim == 2 and a.shape[0] == 1 and a.shape[1] > 0}
    offsets = {name: a for name, a in arrays.items() if a.shape == (1,)}
    layers = {name.rpartition(".")[0] for name in arrays}
    numeric = all(a.dtype.kind == "f" for a in arrays.values())
    if len(weights) != 1 or len(weights) + len(offsets) != len(arrays) or len(layers) != 1 or not numeric:
        found = ", ".join(f"{name} {a.dtype}{a.shape}" for name, a in list(arrays.items())[:8]) or "nothing"
        raise InferenceError(
            f"the model is not a logistic one: found {found}; {_EXPECTED}",
            hint="train a torch.nn.Linear(d, 1) with a logistic loss, or a LogitTask",
        )
    return next(iter(weights.values())), next(iter(offsets.values()), np.zeros(1))


def _finite(values: ArrayLike, what: str) -> NDArray[np.float64]:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InferenceError(
            f"{what} holds something that is not a number", hint="pass plain numbers"
        ) from None
    if not np.isfinite(array).all():
        raise InferenceError(
            f"{what} holds values that are not finite: the training has not converged",
            hint="lower the learning rate and train again",
        )
    return array


def _shapes(weights: NDArray[np.float64], offset: NDArray[np.float64]) -> InferenceError:
    return InferenceError(
        f"the model is not a logistic one: coef has shape {weights.shape}, intercept {offset.shape}; "
        f"{_EXPECTED}",
        hint="pass one weight for each feature and one intercept",
    )
