"""Encrypted computing with CKKS: keys by role, encrypted frames, models that never see a value.

======================  ====================================================================================
`KeyHolder`             owns the secret key: ``generate``, ``encrypt``, ``decrypt``, ``save``, ``load``
`Evaluator`             the public half, for everybody else
`EncryptedFrame`        a table of ciphertexts: select, add, multiply by plain numbers, send
`LogisticRegression`    plain weights on encrypted columns
`weighted_sum`          any plain weights on any encrypted columns
`PROFILES`              parameter sets, checked against the tighter table at 128 bits
======================  ====================================================================================
"""

from twopm_kit.fhe.frames import EncryptedFrame
from twopm_kit.fhe.keys import Evaluator, KeyHolder
from twopm_kit.fhe.models.linear import LogisticRegression, weighted_sum
from twopm_kit.fhe.profiles import PROFILES, Profile

__all__ = [
    "PROFILES",
    "EncryptedFrame",
    "Evaluator",
    "KeyHolder",
    "LogisticRegression",
    "Profile",
    "weighted_sum",
]
