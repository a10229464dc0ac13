"""What the notebook series stands on: the first cell, the exercises, the shown failures, and the last cell.

==========================  ================================================================================
``setup(written_for=…)``    the environment card, and a guard against a kit or a Python that does not fit
``by_mode(MODE, fast=…)``   the value that belongs to this run's size
``check(name, attempt, …)`` kind feedback on an exercise
``expect_error(Error, …)``  a failure that is part of the lesson
``figure(drawing, alt=…)``   a figure with a text that says what can be seen in it
``record(**metrics)``       the numbers that the series runner reads back and asserts
==========================  ================================================================================

The runner, the refresh command and the hygiene checks live in the modules ``series``, ``refresh`` and
``hygiene``; they are not loaded with the room because a notebook does not need them.
"""

from twopm_kit.notebook.environment import EnvironmentCard, setup
from twopm_kit.notebook.exercises import check
from twopm_kit.notebook.expectations import ExpectedError, expect_error
from twopm_kit.notebook.figures import figure
from twopm_kit.notebook.modes import MODES, by_mode
from twopm_kit.notebook.results import record

__all__ = [
    "MODES",
    "EnvironmentCard",
    "ExpectedError",
    "by_mode",
    "check",
    "expect_error",
    "figure",
    "record",
    "setup",
]
