"""Statistics over all nodes' rows, asked for as one asks a pandas frame.

>>> study = HorizontalAnalytics("pay", columns=["wage", "tenure"], categories={"manager": [0, 1]})
>>> mean, groups = study.collect(network, study["wage"].mean(), study.groupby("manager")["wage"].mean())
"""

from twopm_kit.federated.analytics.columns import Column, Groups, Rows, Statistic
from twopm_kit.federated.analytics.study import HorizontalAnalytics
from twopm_kit.federated.analytics.task import AnalyticsResult, AnalyticsTask

__all__ = [
    "AnalyticsResult",
    "AnalyticsTask",
    "Column",
    "Groups",
    "HorizontalAnalytics",
    "Rows",
    "Statistic",
]
