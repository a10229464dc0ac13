"""Linear models: weighted sums of encrypted columns, and regressions that are trained on encrypted rows."""

from twopm_kit.fhe.models.least_squares import LinearRegression, Ridge
from twopm_kit.fhe.models.linear_form import LinearForm, weighted_sum
from twopm_kit.fhe.models.logistic import LogisticRegression
from twopm_kit.fhe.models.poisson import PoissonRegression

__all__ = [
    "LinearForm",
    "LinearRegression",
    "LogisticRegression",
    "PoissonRegression",
    "Ridge",
    "weighted_sum",
]
