"""Models that compute on encrypted frames, with the names that scikit-learn has for them.

===============  =========================================================================================
module           what is there
===============  =========================================================================================
`linear`         `LinearRegression`, `Ridge`, `LogisticRegression`, `PoissonRegression`, `weighted_sum`
`components`     `PCA`, `LDA`
`centroids`      `NearestCentroid`, `KMeans`, `assigner`
`trees`          `GradientBoosting`, `RandomForest`, `TreeEnsemble`, `Tree`
`recommend`      `Recommender`, `user_vector`, `top`
`classes`        `one_hot`: labels as they are encrypted
`moments`        sums of columns and products that one party opens: what models are fitted on
===============  =========================================================================================

Common to all: ``from_sklearn(fitted)`` and ``from_plain(…)`` take a model in clear, ``fit(enc_X, enc_y,
opener=holder)`` trains on encrypted rows, where a model can. ``decision_function(enc)``, or ``predict(enc)``,
which is the same, gives encrypted scores, ``transform(enc)`` encrypted projections. What follows from scores
is taken in clear where they are opened, by ``classes_of(opened)`` (in the order of ``classes_``),
``probabilities(opened)`` or ``rates(opened)``. ``simulate(X)`` computes in clear what the server computes on
ciphertexts, ``score(X, y)`` says how good it is.
"""

from twopm_kit.fhe.models.centroids import KMeans, NearestCentroid, assigner
from twopm_kit.fhe.models.classes import one_hot
from twopm_kit.fhe.models.components import LDA, PCA
from twopm_kit.fhe.models.linear import (
    LinearForm,
    LinearRegression,
    LogisticRegression,
    PoissonRegression,
    Ridge,
    weighted_sum,
)
from twopm_kit.fhe.models.recommend import Recommender, top, user_vector
from twopm_kit.fhe.models.trees import GradientBoosting, RandomForest, Tree, TreeEnsemble

__all__ = [
    "LDA",
    "PCA",
    "GradientBoosting",
    "KMeans",
    "LinearForm",
    "LinearRegression",
    "LogisticRegression",
    "NearestCentroid",
    "PoissonRegression",
    "RandomForest",
    "Recommender",
    "Ridge",
    "Tree",
    "TreeEnsemble",
    "assigner",
    "one_hot",
    "top",
    "user_vector",
    "weighted_sum",
]
