"""What keeps a secret inside its object: it does not print, copy or pickle."""

from typing import NoReturn

from twopm_kit.errors import SecretRefused

__all__ = ["KeptSecret"]


class KeptSecret:
    """Base of objects that hold a key or a seed.

    ``repr`` shows the class only (a subclass may add public facts), and copying or pickling raises.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(secret)"

    def __reduce__(self) -> NoReturn:
        raise SecretRefused(
            f"a {type(self).__name__} holds secrets and is neither pickled nor copied",
            hint="Pass its public messages on, and keep the object in the process that made it.",
        )


def wipe(secret: bytearray) -> None:
    """Overwrite a mutable buffer with zeros (copies that libraries made are out of reach)."""
    secret[:] = bytes(len(secret))
