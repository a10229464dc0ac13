"""What a network on ciphertexts cannot contain, by name, and what to use in its place."""

from collections.abc import Mapping
from typing import Final

__all__ = ["UNKNOWN", "bare", "replacement"]

_REPLACE: Final = "call kit.fhe.replace_activations(module, calibration) and fine-tune"
_CLEAR: Final = "leave it out and apply it in clear after decrypting"
_CHOOSE: Final = "leave it out: decrypt the scores and choose in clear"
_NORM: Final = "use BatchNorm instead, whose statistics are known before the data comes, and train again"
_POOL: Final = (
    "use AvgPool of the same dimensions instead: kit.fhe.replace_activations(module, calibration) exchanges "
    "them; then fine-tune"
)
_POOL_CALL: Final = "use torch.nn.functional.avg_pool2d, or its kin, instead, and fine-tune"
_RECURRENT: Final = "use Linear or Conv layers on a fixed window of the sequence"
_ATTENTION: Final = "use Linear or Conv layers: attention multiplies by a softmax of encrypted values"
_EMBEDDING: Final = "look the rows up in clear before encrypting, and let the network start behind the table"
_FUNCTION: Final = "use a Polynomial activation fitted on the range of its inputs"

#: Hint for everything that is not named here.
UNKNOWN: Final = (
    "use Linear, Conv, AvgPool, BatchNorm, Flatten, Dropout, sums, squares and Polynomial activations"
)

_NAMES: Final[Mapping[str, str]] = {
    "relu relu6 leakyrelu prelu rrelu elu celu selu gelu silu mish sigmoid logsigmoid tanh hardtanh "
    "hardsigmoid hardswish softplus softsign": _REPLACE,
    "softmax softmax2d softmin logsoftmax gumbelsoftmax logsumexp": _CLEAR,
    "max min amax amin argmax argmin topk sort argsort where gt lt ge le eq ne sign maximum minimum clamp "
    "clip round": _CHOOSE,
    "maxpool1d maxpool2d maxpool3d adaptivemaxpool1d adaptivemaxpool2d adaptivemaxpool3d fractionalmaxpool2d "
    "fractionalmaxpool3d lppool1d lppool2d": _POOL,
    "layernorm groupnorm instancenorm instancenorm1d instancenorm2d instancenorm3d rmsnorm localresponsenorm "
    "normalize": _NORM,
    "rnn lstm gru rnncell lstmcell grucell": _RECURRENT,
    "multiheadattention transformer transformerencoder transformerencoderlayer transformerdecoder "
    "transformerdecoderlayer scaleddotproductattention": _ATTENTION,
    "embedding embeddingbag": _EMBEDDING,
    "hardshrink softshrink tanhshrink threshold glu abs sqrt rsqrt exp log log2 log10 log1p expm1 sin cos "
    "reciprocal norm std var": _FUNCTION,
}
_HINTS: Final[Mapping[str, str]] = {name: hint for names, hint in _NAMES.items() for name in names.split()}
# replace_activations exchanges layers; a call in the middle of a forward has no place to put one
_IN_FORWARD: Final[Mapping[str, str]] = {
    _REPLACE: f"make it a layer of its own, such as self.act = torch.nn.ReLU(), then {_REPLACE}",
    _POOL: _POOL_CALL,
}


def bare(name: str) -> str:
    """Name without underscores, in lower case: classes, functions and methods are then called the same."""
    return name.replace("_", "").lower()


def replacement(name: str, *, layer: bool) -> str | None:
    """Name what to use instead of a layer or a call; nothing if it is not known to fail.

    Parameters
    ----------
    name : str
        As `bare` gives it.
    layer : bool
        Whether it is a layer of the module, and not a call in a forward.
    """
    hint = _HINTS.get(name)
    return hint if layer or hint is None else _IN_FORWARD.get(hint, hint)
