"""Secure aggregation: the sum of what many nodes hold, without anybody seeing a single part.

Pure functions and small state machines, no input or output. Bonawitz et al. 2017 (double masking) over the
scalar field of BLS12-381, with the chain in the server's place: it keeps the keys, the clock, the dice and
the one survivor list.

A node: `NodeSession` (``share_message`` → ``receive`` → ``mask`` → ``open_shares``). Anyone:
`reconstruct_mask`. Values become field elements, and back, with `Encoder`. `simulate` runs a whole round in
one process.
"""

from twopm_kit.secagg.aggregator import Unmasking, reconstruct_mask
from twopm_kit.secagg.boxes import BoxKey
from twopm_kit.secagg.commitments import ShareKind, mask_digest, verify_proof
from twopm_kit.secagg.config import RoundConfig
from twopm_kit.secagg.context import RoundContext, party_id
from twopm_kit.secagg.encoding import Decoded, Encoder
from twopm_kit.secagg.field import MODULUS, add, from_words, subtract, to_words, total
from twopm_kit.secagg.messages import OpenedShare, OpeningMessage, ShareAnnouncement, ShareMessage
from twopm_kit.secagg.node import NodeSession, Stage, verify_share_message
from twopm_kit.secagg.simulation import RoundResult, simulate

__all__ = [
    "MODULUS",
    "BoxKey",
    "Decoded",
    "Encoder",
    "NodeSession",
    "OpenedShare",
    "OpeningMessage",
    "RoundConfig",
    "RoundContext",
    "RoundResult",
    "ShareAnnouncement",
    "ShareKind",
    "ShareMessage",
    "Stage",
    "Unmasking",
    "add",
    "from_words",
    "mask_digest",
    "party_id",
    "reconstruct_mask",
    "simulate",
    "subtract",
    "to_words",
    "total",
    "verify_proof",
    "verify_share_message",
]
