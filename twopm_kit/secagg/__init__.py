"""Secure aggregation: the sum of what many nodes hold, without anybody seeing a single part.

Pure functions and small state machines, no input or output. Bonawitz et al. 2017 (double masking) over the
scalar field of BLS12-381, on the neighbour graph of Bell et al. 2020, with the chain in the server's place:
it keeps the keys, the clock, the dice and the one survivor list.

A node: `NodeSession` (``share_message`` → ``receive`` → ``mask`` → ``open_shares``; ``sealed_state`` keeps it
on disk). Anyone: `reconstruct_mask`. Values become field elements, and back, with `Encoder`; masked vectors
travel as `VectorMessage`. `find_graph` tells how many neighbours and shares are enough. `simulate` runs a
whole round in one process.
"""

from twopm_kit.secagg.aggregator import Unmasking, reconstruct_mask
from twopm_kit.secagg.boxes import BoxKey
from twopm_kit.secagg.commitments import ShareKind, mask_digest, verify_proof
from twopm_kit.secagg.config import Mode, RoundConfig
from twopm_kit.secagg.context import RoundContext, party_id
from twopm_kit.secagg.encoding import Decoded, Encoder
from twopm_kit.secagg.field import MODULUS, add, from_words, subtract, to_words, total
from twopm_kit.secagg.graph import Graph, find_graph
from twopm_kit.secagg.messages import OpenedShare, OpeningMessage, ShareAnnouncement, ShareMessage
from twopm_kit.secagg.node import NodeSession, Stage, verify_share_message
from twopm_kit.secagg.roster import Roster
from twopm_kit.secagg.simulation import RoundResult, simulate
from twopm_kit.secagg.vectors import ChunkProof, PointProof, VectorMessage, contradiction

__all__ = [
    "MODULUS",
    "BoxKey",
    "ChunkProof",
    "Decoded",
    "Encoder",
    "Graph",
    "Mode",
    "NodeSession",
    "OpenedShare",
    "OpeningMessage",
    "PointProof",
    "Roster",
    "RoundConfig",
    "RoundContext",
    "RoundResult",
    "ShareAnnouncement",
    "ShareKind",
    "ShareMessage",
    "Stage",
    "Unmasking",
    "VectorMessage",
    "add",
    "contradiction",
    "find_graph",
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
