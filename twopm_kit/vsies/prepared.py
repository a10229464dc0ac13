"""A table on its way into ciphertexts: rows that keep a schema, brought to one scale, with public bounds."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pandas as pd

from twopm_kit.errors import SchemaError, WrongKey
from twopm_kit.fhe import Evaluator, KeyHolder
from twopm_kit.vsies.schema import Schema
from twopm_kit.vsies.sources import DataSource
from twopm_kit.vsies.standard import Standard

__all__ = ["Prepared"]

_FAILURES: Final = 1_000


class Prepared:
    """Rows of a source, a schema and a standard that fit each other, and the key for them.

    Parameters
    ----------
    source : DataSource
        The rows.
    schema : Schema
        What each of them must keep.
    standard : Standard or None
        How columns are brought to one scale; None: what the schema alone declares.
    keys : KeyHolder or Evaluator
        Whose key they are encrypted under.
    packing : str
        Rows in a slot: "real" or "complex".

    Raises
    ------
    SchemaError
        Schema and standard do not fit, or a column of numbers has no public bounds.
    WrongKey
        ``keys`` is no key.
    """

    def __init__(
        self,
        source: DataSource,
        schema: Schema,
        standard: Standard | None,
        keys: KeyHolder | Evaluator,
        packing: str,
    ) -> None:
        if not isinstance(schema, Schema):
            raise SchemaError(
                f"a {type(schema).__name__} was passed as schema", hint="pass a kit.vsies.Schema"
            )
        if not isinstance(keys, KeyHolder | Evaluator):
            raise WrongKey(
                f"a {type(keys).__name__} was passed as keys",
                hint="pass a kit.fhe.KeyHolder, or the Evaluator of whoever is to open the data",
            )
        self.standard = Standard.declared(schema) if standard is None else standard
        self.source, self.schema, self.keys, self.packing = source, schema, keys, packing
        self._bounds = _bounds(schema, self.standard)
        self._nullable = [field.name for field in schema if field.nullable]

    def check(self, *, progress: bool) -> None:
        """Go through all rows as if they were encrypted, and tell everything that they break in one error.

        Raises
        ------
        SchemaError
            Rows break the schema (``failures`` is the table), or hold what standard or key cannot take.
        """
        found: list[pd.DataFrame] = []
        at = 0
        for chunk in self.source.chunks(progress=progress):
            first, at = at, at + len(chunk)
            try:
                rows = self.standard.apply(self.schema.validate(chunk, first_row=first))
                if not first:
                    # what a key does not take, it says of one row, which is thrown away
                    self.keys.encrypt(
                        rows.iloc[:1], bounds=self._bounds, packing=self.packing, missing=self._missing
                    )
            except SchemaError as error:
                if error.failures is None and not found:
                    raise
                found += [] if error.failures is None else [error.failures]
            if sum(map(len, found)) >= _FAILURES:
                break
        if found:
            failures = pd.concat(found, ignore_index=True).drop_duplicates(ignore_index=True)
            raise SchemaError(
                f"{self.source.name} does not fit schema {self.schema.name!r}: {len(failures):,} breaches in "
                f"the first {at:,} rows; nothing was encrypted, stored or indexed",
                hint="look at .failures of this error, correct those rows, and contribute again",
                failures=failures.head(_FAILURES),
            )

    def encrypt_to(self, path: Path, *, n_jobs: int, progress: bool) -> None:
        """Write the container of all rows; an interrupted call goes on when it is made again."""
        self.keys.encrypt_to(
            self._rows,
            path,
            bounds=self._bounds,
            packing=self.packing,
            missing=self._missing,
            n_jobs=n_jobs,
            progress=progress,
        )

    @property
    def _missing(self) -> str | list[str]:
        return self._nullable or "refuse"

    def _rows(self) -> Iterator[pd.DataFrame]:
        at = 0
        for chunk in self.source.chunks():
            yield self.standard.apply(self.schema.validate(chunk, first_row=at))
            at += len(chunk)


def _bounds(schema: Schema, standard: Standard) -> dict[str, float]:
    """Public bounds of all columns of numbers."""
    if not isinstance(standard, Standard):
        raise SchemaError(
            f"a {type(standard).__name__} was passed as standard",
            hint="pass a kit.vsies.Standard, or leave it out",
        )
    if standard.schema_hash != schema.hash:
        raise SchemaError(
            "the standard was fitted for another schema",
            hint="fit it again, or pass the schema of the standard",
        )
    bounds = standard.bounds
    without = [field.name for field in schema if field.is_number and field.name not in bounds]
    if without:
        raise SchemaError(
            f"{', '.join(without[:8])} {'have' if len(without) > 1 else 'has'} no low and high; a bound "
            "that is taken from the values would tell about them",
            hint="give the fields ranges that are known from the matter: schema.with_field(…, low=, high=)",
        )
    return bounds
