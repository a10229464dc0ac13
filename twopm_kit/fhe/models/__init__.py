"""Models that compute on encrypted frames."""

from twopm_kit.fhe.models.linear import LinearForm, LogisticRegression

__all__ = ["LinearForm", "LogisticRegression"]
