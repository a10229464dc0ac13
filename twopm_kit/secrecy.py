"""What keeps a secret inside its object: it does not print, copy or pickle."""

from typing import ClassVar, NoReturn

from twopm_kit.errors import SecretRefused

__all__ = ["KeptSecret", "wipe"]


class KeptSecret:
    """Base of objects that hold a key, a share or a seed.

    ``repr`` shows the class only (a subclass may add public facts), and copying or pickling raises. A
    subclass may say in ``_holds`` what it holds, and in ``_instead`` what to do.
    """

    __slots__ = ()

    _holds: ClassVar[str] = "secrets"
    _instead: ClassVar[str] = "pass its public messages on, and keep the object in the process that made it"

    def __repr__(self) -> str:
        return f"{type(self).__name__}(secret)"

    def __reduce__(self) -> NoReturn:
        raise SecretRefused(
            f"a {type(self).__name__} holds {self._holds} and cannot be pickled or copied", hint=self._instead
        )

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        self.__reduce__()

    def __getstate__(self) -> NoReturn:
        self.__reduce__()


def wipe(secret: bytearray) -> None:
    """Overwrite a mutable buffer with zeros (copies that libraries made are out of reach)."""
    secret[:] = bytes(len(secret))
