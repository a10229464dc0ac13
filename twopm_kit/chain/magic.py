"""``%%vyper Name``: compile the contract in a cell and put it into the notebook under its name."""

from typing import Any

from IPython import get_ipython
from IPython.core.magic import Magics, cell_magic, magics_class

from twopm_kit.chain.artifacts import Artifact
from twopm_kit.chain.compiler import compile_source
from twopm_kit.errors import ChainError, CompileError

__all__ = ["VyperMagics", "register"]


@magics_class
class VyperMagics(Magics):
    """The kit's cell magics."""

    @cell_magic
    def vyper(self, line: str, cell: str) -> Artifact:
        """Compile the cell; the artefact gets the name on the first line.

        Raises
        ------
        CompileError
            When there is not exactly one name, or Vyper refuses the source.
        """
        words = line.split()
        if len(words) != 1:
            raise CompileError(
                f"%%vyper needs one name; {len(words)} were given",
                hint="write %%vyper Name on the first line",
            )
        made = compile_source(cell, words[0])
        shell: Any = self.shell
        shell.user_ns[made.name] = made
        return made


def register(shell: Any = None) -> None:
    """Make ``%%vyper`` known to the running notebook.

    Raises
    ------
    ChainError
        When this is not IPython.
    """
    shell = shell if shell is not None else get_ipython()
    if shell is None:
        raise ChainError(
            "%%vyper is a cell magic, and this is not a notebook",
            hint="call kit.chain.compile(source, name) instead",
        )
    shell.register_magics(VyperMagics)
