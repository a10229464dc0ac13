"""Predictions in clear or on ciphertexts, paid for on chain.

======================  ====================================================================================
`Predictor`             a finished logistic model: predicts in clear and on encrypted frames
`EncryptedClient`       encrypts its rows, lets a predictor compute, opens the scores
`PredictionDesk`        the contract where models are listed and requests are paid for
`PredictionService`     checks the payment on chain, then answers
`PredictionClient`      pays, asks, checks and reads
======================  ====================================================================================
"""

from twopm_kit.inference.card import ModelCard
from twopm_kit.inference.client import EncryptedClient, PaidRequest, PredictionClient
from twopm_kit.inference.desk import DeskRequest, Listing, PredictionDesk, RequestState
from twopm_kit.inference.predictor import THRESHOLD, Predictor, classify, probabilities
from twopm_kit.inference.service import Answer, PredictionService
from twopm_kit.inference.wire import Kind

__all__ = [
    "THRESHOLD",
    "Answer",
    "DeskRequest",
    "EncryptedClient",
    "Kind",
    "Listing",
    "ModelCard",
    "PaidRequest",
    "PredictionClient",
    "PredictionDesk",
    "PredictionService",
    "Predictor",
    "RequestState",
    "classify",
    "probabilities",
]
