"""Checks of what comes with a torch module: its mode, its calibration rows, and that it runs on them."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from twopm_kit.errors import ModuleRefused

__all__ = ["NORMS", "calibrated", "reference"]

#: Layers that compute with running statistics once they are in eval mode.
NORMS = (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)
_WHOLE_TYPES = (torch.float32, torch.float64)


def calibrated(module: Any, calibration: "torch.Tensor | npt.ArrayLike") -> torch.Tensor:
    """Calibration rows in the module's own precision.

    Parameters
    ----------
    module : torch.nn.Module
        Float32 or float64.
    calibration : tensor or array-like, shape (n, ...)
        Real numbers; rows as the module takes them.

    Returns
    -------
    tensor, shape (n, ...)
        On the CPU, without gradients, in the type of the module's parameters.

    Raises
    ------
    ModuleRefused
        This is not a module, its numbers are of another type, or the rows are not a finite real table.
    """
    if not isinstance(module, torch.nn.Module):
        raise ModuleRefused(
            f"a {type(module).__name__} was passed; expected a torch.nn.Module",
            hint="pass the trained module itself, not its class, its state dict or a function",
        )
    tensors = [*module.parameters(), *module.buffers()]
    kinds = {tensor.dtype for tensor in tensors if tensor.is_floating_point() or tensor.is_complex()}
    if len(kinds) > 1 or not kinds <= set(_WHOLE_TYPES):
        raise ModuleRefused(
            f"the module's numbers are {', '.join(sorted(map(str, kinds)))}; expected float32 or float64",
            hint="convert it first: module.float()",
        )
    if any(tensor.device.type != "cpu" for tensor in tensors):
        raise ModuleRefused("the module is not in main memory", hint="move it first: module.cpu()")
    try:
        rows = torch.as_tensor(
            # a copy of what is no tensor: pandas hands out what must not be written to
            np.asarray(calibration.detach())
            if isinstance(calibration, torch.Tensor)
            else np.array(calibration)
        )
    except (TypeError, ValueError, RuntimeError):
        raise ModuleRefused(
            f"the calibration rows, a {type(calibration).__name__}, are not a table of numbers",
            hint="pass a tensor or an array of shape (n, ...)",
        ) from None
    if not rows.is_floating_point():
        raise ModuleRefused(
            f"the calibration rows are of type {rows.dtype}; expected real numbers",
            hint="scale and convert them as in training: for images X / 255.0",
        )
    if rows.ndim < 2 or rows.numel() == 0:
        raise ModuleRefused(
            f"the calibration rows have shape {tuple(rows.shape)}; expected (n, ...) with n ≥ 1",
            hint="pass several rows of training data, the first axis being the rows: x[None] for one",
        )
    if not bool(torch.isfinite(rows).all()):
        raise ModuleRefused(
            "the calibration rows hold NaN or infinite values", hint="fill or drop them as in training"
        )
    return rows.to(next(iter(kinds), torch.float64), copy=True)


def reference(module: torch.nn.Module, rows: torch.Tensor) -> torch.Tensor:
    """Output of a module in eval mode for its calibration rows.

    Raises
    ------
    ModuleRefused
        The module does not run on these rows, or does not give one finite tensor with a row for each.
    """
    try:
        with torch.no_grad():
            found = module(rows)
    except (RuntimeError, TypeError, ValueError, IndexError, KeyError, AttributeError) as fault:
        raise ModuleRefused(
            f"the module does not run on calibration rows of shape {tuple(rows.shape)}: {_first_line(fault)}",
            hint="pass one tensor, shaped like a batch in training; the module takes nothing else",
        ) from fault
    if not isinstance(found, torch.Tensor):
        raise ModuleRefused(
            f"the module returns a {type(found).__name__}; expected one tensor",
            hint="return the scores alone from forward",
        )
    if found.ndim < 2 or len(found) != len(rows):
        raise ModuleRefused(
            f"the module turns rows of shape {tuple(rows.shape)} into {tuple(found.shape)}; "
            f"expected ({len(rows)}, ...)",
            hint="keep the rows apart: flatten(1), not flatten(), and no squeeze of the last axis",
        )
    if not bool(torch.isfinite(found).all()):
        raise ModuleRefused(
            "the module's output for the calibration rows holds NaN or infinite values",
            hint="train it until its outputs are finite; a polynomial outside its interval diverges",
        )
    return found


def _first_line(fault: Exception) -> str:
    return str(fault).strip().split("\n", maxsplit=1)[0] or type(fault).__name__
