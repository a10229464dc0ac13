"""Encrypted computing with CKKS: keys by role, encrypted frames, models that never see a value.

======================  ====================================================================================
`KeyHolder`             owns the secret key: ``generate``, ``encrypt``, ``decrypt``, ``save``, ``load``
`Evaluator`             the public half, for everybody else
`Committee`             opens with a key that nobody holds alone: ``deal``, ``decrypt``, ``combine``
`Member`                one of them, with its share: ``partial``, ``save``, ``load``
`EncryptedFrame`        a table of ciphertexts: select, add, multiply, summarise, send
`Layout`                where values sit: many rows, or an answer without delay
`LogisticRegression`    trained on encrypted rows, or with plain weights from elsewhere
`LinearRegression`      and `Ridge`, `PoissonRegression`: the same for amounts and counts
`PCA`, `LDA`            directions from encrypted second moments
`NearestCentroid`       and `KMeans`: centres of rows that nobody shows
`GradientBoosting`      and `RandomForest`: trees of scikit-learn on encrypted rows
`Recommender`           an encrypted user against plain items
`compile`               a torch module to an `EncryptedModule`; `replace_activations`, `fine_tune` before it
`weighted_sum`          any plain weights on any encrypted columns
`PROFILES`              parameter sets, checked against the tighter table at 128 bits
======================  ====================================================================================
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from twopm_kit.errors import UnknownRoom
from twopm_kit.fhe.committee import Committee
from twopm_kit.fhe.frames import EncryptedFrame, concat
from twopm_kit.fhe.keys import Evaluator, KeyHolder
from twopm_kit.fhe.layouts import COLUMNS, Layout
from twopm_kit.fhe.member import Member
from twopm_kit.fhe.models.centroids import KMeans, NearestCentroid
from twopm_kit.fhe.models.classes import one_hot
from twopm_kit.fhe.models.components import LDA, PCA
from twopm_kit.fhe.models.linear import (
    LinearRegression,
    LogisticRegression,
    PoissonRegression,
    Ridge,
    weighted_sum,
)
from twopm_kit.fhe.models.recommend import Recommender, user_vector
from twopm_kit.fhe.models.trees import GradientBoosting, RandomForest
from twopm_kit.fhe.networks.module import EncryptedModule, compile  # noqa: A004 - as torch calls it
from twopm_kit.fhe.partials import Partial, Roster
from twopm_kit.fhe.plan import Plan
from twopm_kit.fhe.profiles import PROFILES, Profile
from twopm_kit.fhe.statistics import EncryptedStatistic
from twopm_kit.fhe.sums import slot_sums

if TYPE_CHECKING:
    from twopm_kit.fhe.networks.activations import fine_tune, replace_activations

__all__ = [
    "COLUMNS",
    "LDA",
    "PCA",
    "PROFILES",
    "Committee",
    "EncryptedFrame",
    "EncryptedModule",
    "EncryptedStatistic",
    "Evaluator",
    "GradientBoosting",
    "KMeans",
    "KeyHolder",
    "Layout",
    "LinearRegression",
    "LogisticRegression",
    "Member",
    "NearestCentroid",
    "Partial",
    "Plan",
    "PoissonRegression",
    "Profile",
    "RandomForest",
    "Recommender",
    "Ridge",
    "Roster",
    "compile",
    "concat",
    "fine_tune",
    "one_hot",
    "replace_activations",
    "slot_sums",
    "user_vector",
    "weighted_sum",
]

# They bring torch, which takes seconds to load.
_WITH_TORCH = ("fine_tune", "replace_activations")


def __getattr__(name: str) -> Any:
    if name in _WITH_TORCH:
        return getattr(import_module("twopm_kit.fhe.networks.activations"), name)
    raise UnknownRoom(f"twopm_kit.fhe has no {name!r}", hint=f"use one of: {', '.join(__all__)}")
