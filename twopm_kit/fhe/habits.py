"""What NumPy and pandas habits meet on an encrypted frame: the operator that is meant, or a named refusal."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NoReturn

from twopm_kit.errors import CiphertextError, UnknownRoom
from twopm_kit.fhe.arithmetic import refuse_order

__all__ = ["Habits"]

#: NumPy functions of two operands that are operators here: with the frame on the left, and on the right.
_OPERATORS: Final = {
    "add": ("__add__", "__radd__"),
    "subtract": ("__sub__", "__rsub__"),
    "multiply": ("__mul__", "__rmul__"),
    "true_divide": ("__truediv__", "__rtruediv__"),
    "divide": ("__truediv__", "__rtruediv__"),
    "power": ("__pow__", "__rpow__"),
    "matmul": ("__matmul__", "__rmatmul__"),
}
_OF_ONE: Final[Mapping[str, Callable[[Any], Any]]] = {
    "negative": lambda frame: -frame,
    "positive": lambda frame: frame,
    "square": lambda frame: frame**2,
}
#: These compare values with each other or with whole numbers.
_COMPARES: Final = (
    *("absolute", "fabs", "sign", "maximum", "minimum", "isnan", "floor_divide", "remainder"),
    *("less", "less_equal", "greater", "greater_equal", "equal", "not_equal", "rint", "floor", "ceil"),
)

_POLYNOMIAL: Final = (
    "use what is made of sums and products (+, -, *, ** 2, @ weights), or apply it after holder.decrypt"
)
_ROWS: Final = "choose rows before encrypting: afterwards nobody can take some of them out of a ciphertext"
_OPEN: Final = "open it: holder.decrypt(enc)"
_BEFORE: Final = "do it before encrypting, or after holder.decrypt(enc)"
#: What pandas has, and what does it here.
_INSTEAD: Final[Mapping[str, str]] = {
    **dict.fromkeys(("iloc", "loc", "iat", "at", "head", "tail", "sample", "query", "dropna"), _ROWS),
    **dict.fromkeys(("values", "to_numpy", "to_dict", "to_csv", "index", "T", "item", "tolist"), _OPEN),
    **dict.fromkeys(("groupby", "sort_values", "merge", "value_counts", "nunique", "mode"), _BEFORE),
    **dict.fromkeys(("apply", "map", "transform", "agg", "abs", "clip", "round", "astype"), _POLYNOMIAL),
    "dot": "use enc @ weights",
    "copy": "use it as it is: a frame never changes",
    "dtypes": "see enc.kinds",
    "isna": "see enc.masked for the columns that may have missing values",
    "join": "use kit.fhe.concat([...]) for columns of the same rows",
    "add": "use enc + other",
    "mul": "use enc * other",
    "pow": "use enc ** 2",
}


class Habits:
    """Mixed into encrypted frames."""

    __slots__ = ()
    #: Above that of every pandas object, so that ``df + enc`` asks the frame.
    __pandas_priority__ = 1_000_000

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """Compute a NumPy function by the operator of the same meaning; refuse any other by name."""
        name = ufunc.__name__
        if method == "__call__" and not options:
            if name in _OPERATORS and len(inputs) == 2:
                left, right = inputs
                here = isinstance(left, Habits)
                return getattr(left if here else right, _OPERATORS[name][not here])(right if here else left)
            if name in _OF_ONE:
                return _OF_ONE[name](self)
        if name in _COMPARES:
            self._refuse_order(f"np.{name}")
        raise CiphertextError(
            f"np.{name} of an encrypted frame was asked for; it is no polynomial, which is all that "
            "ciphertexts can compute",
            hint=_POLYNOMIAL,
        )

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> NoReturn:
        """Refuse: NumPy functions need the values."""
        name = function.__name__
        raise CiphertextError(
            f"np.{name} of an encrypted frame was asked for; NumPy needs the values",
            hint=f"use enc.{name}()"
            if name in ("sum", "mean", "var", "std", "cov")
            else "use the frame's own methods and operators, or open it with holder.decrypt(enc)",
        )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NoReturn:
        self._refuse_value("an array")

    def _refuse_order(self: Any, what: str) -> NoReturn:
        refuse_order(self, what)

    # Comparing -------------------------------------------------------------------------------------------

    def _ordered(self, _: object) -> NoReturn:
        self._refuse_order("a comparison")

    __lt__ = __le__ = __gt__ = __ge__ = _ordered

    def __eq__(self, other: object) -> NoReturn:
        # the answer of two addresses would look like one about values
        self._refuse_order("a comparison")

    __hash__ = object.__hash__

    def __abs__(self) -> NoReturn:
        self._refuse_order("the absolute value")

    def __round__(self, digits: int = 0) -> NoReturn:
        self._refuse_order("rounding")

    def __float__(self) -> NoReturn:
        self._refuse_value("a float")

    def __int__(self) -> NoReturn:
        self._refuse_value("an int")

    def _refuse_value(self, what: str) -> NoReturn:
        raise CiphertextError(
            f"{what} of encrypted values was asked for; only the key holder can read them", hint=_OPEN
        )

    def _logic(self, _: object = None) -> NoReturn:
        raise CiphertextError(
            "logic on encrypted truth values was asked for", hint="use a * b for and, 1 - a for not"
        )

    __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = __invert__ = _logic

    def __floordiv__(self, _: object) -> NoReturn:
        self._refuse_order("a whole quotient")

    def __mod__(self, _: object) -> NoReturn:
        self._refuse_order("a remainder")

    # Dividing by it, and what else is no polynomial ------------------------------------------------------

    def __rtruediv__(self, _: object) -> NoReturn:
        raise CiphertextError(
            "something was divided by an encrypted frame; a reciprocal is not a polynomial",
            hint="open sums and divide in clear, or encrypt the reciprocals beside the values",
        )

    def __rpow__(self, _: object) -> NoReturn:
        raise CiphertextError(
            "something was raised to an encrypted power; that is not a polynomial", hint=_POLYNOMIAL
        )

    def __rmatmul__(self, _: object) -> NoReturn:
        raise CiphertextError(
            "plain weights stood to the left of an encrypted frame, where they would weigh rows",
            hint="use enc @ weights for weighted sums of columns",
        )

    def __pos__(self) -> Any:
        return self

    # Changing and looking --------------------------------------------------------------------------------

    def __setitem__(self, name: object, value: object) -> NoReturn:
        raise CiphertextError(
            f"column {name!r} of an encrypted frame was to be set; a frame never changes",
            hint="use enc = enc.assign(name=column)",
        )

    if not TYPE_CHECKING:  # a type checker would no longer see misspelled names

        def __getattr__(self, name: str) -> NoReturn:
            hint = _INSTEAD.get(name, "see help(kit.fhe.EncryptedFrame) for what it has")
            # names with a line in front are those of protocols, and of a frame that is not made yet
            if not name.startswith("_") and name in self.columns:
                hint = f"use enc[{name!r}] for the column"
            raise UnknownRoom(f"an encrypted frame has no attribute {name!r}", hint=hint)
