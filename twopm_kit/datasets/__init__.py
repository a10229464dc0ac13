"""Bundled tables with checksums and datasheets, and ways to spread rows over nodes.

>>> from twopm_kit import datasets
>>> frame = datasets.load("breast_cancer")
>>> hospitals = datasets.partition(frame, 5, scheme="dirichlet", alpha=0.5, label="target", seed=1)
"""

from twopm_kit.datasets.catalogue import describe, folder, load, names
from twopm_kit.datasets.datasheet import Datasheet
from twopm_kit.datasets.partitions import SCHEMES, partition, split

__all__ = ["SCHEMES", "Datasheet", "describe", "folder", "load", "names", "partition", "split"]
