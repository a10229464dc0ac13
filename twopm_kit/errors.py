"""Every error that the kit raises on purpose: what was passed, what was expected, and what to do next.

The *class* names the kind of remedy, the message says what was passed and what was expected, and ``hint``
says what to do. Each class also mixes in the builtin it stands for, so ``except ValueError`` still works.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "AccountError",
    "AlreadyAnswered",
    "AnswerMismatch",
    "AnvilMissing",
    "AttestationError",
    "BudgetSpent",
    "CallError",
    "CellTimeout",
    "ChainError",
    "ChainUnavailable",
    "ChecksumMismatch",
    "CiphertextError",
    "CommitteeError",
    "CompileError",
    "ConfigError",
    "ContractReverted",
    "DataError",
    "EncodingError",
    "ExpectationFailed",
    "FHEError",
    "FederatedError",
    "ForeignRequest",
    "ForkRefused",
    "IndexRefused",
    "InferenceError",
    "InputMismatch",
    "ModuleRefused",
    "NetworkRefused",
    "NotebookError",
    "ParameterError",
    "PartitionError",
    "PaymentError",
    "ProfileError",
    "ProofRefused",
    "ProtocolError",
    "RequestExpired",
    "RequestNotFinal",
    "RequestRefunded",
    "RoundAborted",
    "RoundConfigError",
    "SchemaError",
    "SecretRefused",
    "SecureAggregationError",
    "SourceError",
    "StoreError",
    "TamperedMessage",
    "TaskError",
    "TooFewSurvivors",
    "TrainingDiverged",
    "TwoPMError",
    "UnknownContract",
    "UnknownDataset",
    "UnknownMember",
    "UnknownRequest",
    "UnknownRoom",
    "WrongKey",
]


class TwoPMError(Exception):
    """Root of every error of the kit.

    Parameters
    ----------
    message : str
        What was passed and what was expected.
    hint : str, optional
        What to do next, as an imperative sentence.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  → {self.hint}" if self.hint else self.message


class UnknownRoom(TwoPMError, AttributeError):
    """The kit has no public name like this."""


class ConfigError(TwoPMError, ValueError):
    """A setting is unknown or has a value that it cannot have: change the setting."""


# Data ---------------------------------------------------------------------------------------------------


class DataError(TwoPMError, ValueError):
    """The data cannot be used as passed: change the data or how it is named."""


class UnknownDataset(DataError, LookupError):
    """No bundled dataset has this name."""


class ChecksumMismatch(DataError):
    """A file is not the one that was published: restore it."""


class SchemaError(DataError):
    """A column is missing, unexpected, not numeric, or holds values that it must not hold.

    Parameters
    ----------
    message : str
        What was passed and what was expected.
    hint : str, optional
        What to do next.
    failures : pandas.DataFrame, optional
        One line for each breach of a schema: column, rule, what was found, and in which row.
    """

    def __init__(self, message: str, *, hint: str = "", failures: "pd.DataFrame | None" = None) -> None:
        super().__init__(message, hint=hint)
        self.failures = failures


class SourceError(DataError):
    """A file, folder, URL or query cannot be read as a table: the message says where it stops."""


class ProofRefused(DataError):
    """A statement about data is false, or its proof does not fit it: nothing may be built on it."""


class AttestationError(ProofRefused):
    """An attestation is forged, incomplete, or made for something else: ask its issuer for another."""


class PartitionError(DataError):
    """The rows cannot be divided among the nodes in this way."""


# Chain --------------------------------------------------------------------------------------------------


class ChainError(TwoPMError, RuntimeError):
    """The chain answered with something that the kit cannot go on from."""


class ChainUnavailable(ChainError, ConnectionError):
    """Nobody answers behind the given target: start the chain or correct the URL."""


class AnvilMissing(ChainUnavailable):
    """The anvil binary is not installed on this machine."""


class AccountError(ChainError, ValueError):
    """The account is unknown, or has no key or not enough coins for the call."""


class UnknownContract(ChainError, LookupError):
    """No contract, method or event of this name exists."""


class UnknownMember(UnknownContract, AttributeError):
    """A contract has no method or event of this name."""


class CallError(ChainError, TypeError):
    """The arguments or options of a contract call do not fit its ABI: change them."""


class CompileError(ChainError, SyntaxError):
    """Vyper refused the source: correct the line that it names."""


class IndexRefused(ChainError, ValueError):
    """What is to be contributed does not fit what the index says: change one of the two first."""


class ContractReverted(ChainError):
    """A contract refused a call; nothing on chain has changed.

    Parameters
    ----------
    message : str
        Which call was refused.
    reason : str
        The decoded reason, the same on every back end.
    hint : str, optional
        What to do next.
    """

    def __init__(self, message: str, *, reason: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


# Secure aggregation -------------------------------------------------------------------------------------


class SecureAggregationError(TwoPMError, RuntimeError):
    """Root of the errors of a secure aggregation round.

    Parameters
    ----------
    message : str
        What was passed and what was expected.
    hint : str, optional
        What to do next.
    dealer : bytes, optional
        Address of the party whose shares are to blame, where that is certain.
    """

    def __init__(self, message: str, *, hint: str = "", dealer: bytes = b"") -> None:
        super().__init__(message, hint=hint)
        self.dealer = dealer


class RoundConfigError(SecureAggregationError, ValueError):
    """The round's numbers cannot work together: it is refused before it starts."""


class EncodingError(SecureAggregationError, ValueError):
    """A vector cannot be encoded: its values, length or weight are outside what the round agreed on."""


class ProtocolError(SecureAggregationError):
    """A party did something, or asked for something, that the protocol forbids at this point."""


class TamperedMessage(SecureAggregationError):
    """A message from another party fails its authentication or does not open its commitment."""


class TooFewSurvivors(SecureAggregationError):
    """Fewer parties are left than the threshold needs: the round ends without a result."""


# Storage ------------------------------------------------------------------------------------------------


class StoreError(TwoPMError, LookupError):
    """An object is not in the store, or is not what its address says."""


# Federated learning -------------------------------------------------------------------------------------


class FederatedError(TwoPMError, RuntimeError):
    """Root of the errors of federated tasks and networks."""


class TaskError(FederatedError, ValueError):
    """A task is not complete or contradicts itself: change the task."""


class RoundAborted(FederatedError):
    """A round ended on chain without a result; the message says in which step and why."""


# Encrypted computing ------------------------------------------------------------------------------------


class FHEError(TwoPMError, RuntimeError):
    """Root of the errors of encrypted computing."""


class ProfileError(FHEError, ValueError):
    """The encryption profile is unknown, insecure, or too small for the work: choose another."""


class CiphertextError(FHEError, ValueError):
    """A ciphertext or its container is damaged, of another shape, or out of levels or range."""


class WrongKey(FHEError, ValueError):
    """A ciphertext was made under another key than the one at hand."""


class SecretRefused(FHEError, TypeError):
    """A secret key was about to leave its owner: pass the public evaluator instead."""


class BudgetSpent(FHEError, PermissionError):
    """A key has opened as many ciphertexts as it may: make a new key."""


class ModuleRefused(FHEError, ValueError):
    """A torch module cannot run on ciphertexts as it is: change the layer that the message names."""


class CommitteeError(FHEError, ValueError):
    """A partial opening is missing, doubled, foreign or changed: ask the member that the message names."""


class TrainingDiverged(FHEError):
    """Scores leave the range of the model's polynomial: take smaller steps, or a wider interval."""


class ForkRefused(FHEError):
    """Encrypted computing was reached in a forked process: start workers with spawn."""


# Inference ----------------------------------------------------------------------------------------------


class InferenceError(TwoPMError, RuntimeError):
    """A prediction cannot be made from what was passed."""


class PaymentError(InferenceError, PermissionError):
    """No payment on chain covers this prediction: pay first, or pass the right receipt."""


class UnknownRequest(PaymentError, LookupError):
    """The desk has no request of this number: pay on the desk and chain that the predictor reads."""


class ForeignRequest(PaymentError):
    """The request was paid for another model, or by another account: use one of your own for this model."""


class InputMismatch(PaymentError, ValueError):
    """The input is not the one that was paid for: send exactly the bytes that the payment names."""


class AlreadyAnswered(PaymentError):
    """The payment has bought its one answer: pay for another."""


class RequestRefunded(PaymentError):
    """The payment went back to the client: pay again."""


class RequestExpired(PaymentError, TimeoutError):
    """The answer window is over: take the payment back and pay again."""


class RequestNotFinal(PaymentError):
    """The payment is not deep enough in the chain yet: wait for more blocks."""


class AnswerMismatch(PaymentError, ValueError):
    """The answer is not the one that the chain names for this request: ask for the right one."""


# Notebooks ----------------------------------------------------------------------------------------------


class NotebookError(TwoPMError, RuntimeError):
    """A notebook of the series is not as it must be, or failed while it ran."""


class ParameterError(NotebookError, ValueError):
    """A notebook parameter is unknown, of the wrong type, or did not take effect."""


class CellTimeout(NotebookError, TimeoutError):
    """A cell or a notebook ran for longer than it may."""


class NetworkRefused(NotebookError, PermissionError):
    """A notebook under test tried to leave this machine."""


class ExpectationFailed(NotebookError, AssertionError):
    """Something that was expected to fail did not fail, or failed in another way."""
