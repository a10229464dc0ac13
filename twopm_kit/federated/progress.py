"""From a published sum to the next model: the one rule that every party follows for itself."""

from collections.abc import Sequence
from dataclasses import dataclass

from twopm_kit.errors import EncodingError, TamperedMessage, TaskError, TwoPMError
from twopm_kit.federated.contract import encoder_of
from twopm_kit.federated.task import State, Task
from twopm_kit.secagg import Decoded
from twopm_kit.secagg.field import Limbs

__all__ = ["Progress"]


@dataclass(frozen=True)
class Progress:
    """What a published sum has done to the model.

    Attributes
    ----------
    state : dict of ndarray
        The model after the round.
    decoded : Decoded or None
        The decoded sum; None if it is void.
    fault : str
        Why a void sum is void.
    cause : TwoPMError or None
        The error behind it.
    """

    state: State
    decoded: Decoded | None = None
    fault: str = ""
    cause: TwoPMError | None = None

    @classmethod
    def after(cls, task: Task, state: State, total: Limbs, counts: Sequence[int]) -> "Progress":
        """Return the model after a round.

        A member can mask what is no encoding at all, and the sum is then what nobody can decode, or what
        the task cannot take a step with. Such a round is void: by the same public rule everybody keeps the
        model it had, and the next round goes on.

        Parameters
        ----------
        task : Task
            The task.
        state : dict of ndarray
            The model that entered the round.
        total : uint32 array, shape (groups · m, 8)
            The sums of all groups, one after the other.
        counts : sequence of int
            How many vectors are in each group's sum.
        """
        try:
            sections = encoder_of(task).decode_sections(total, counts)
            decoded = task.combine(sections)
            return cls(task.merge(state, decoded), decoded)
        except (EncodingError, TamperedMessage, TaskError) as fault:
            return cls(state, None, fault.message, fault)
