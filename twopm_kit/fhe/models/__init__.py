"""Models that compute on encrypted frames."""

from twopm_kit.fhe.models.linear import LinearForm, LogisticRegression, weighted_sum

__all__ = ["LinearForm", "LogisticRegression", "weighted_sum"]
