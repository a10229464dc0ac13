"""``DatasetRef``: the few facts with which anybody finds, fetches and checks a contributed dataset."""

import json
import re
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from twopm_kit.chain.deployed import facts_table
from twopm_kit.errors import IndexRefused, TwoPMError
from twopm_kit.untrusted import load_json

if TYPE_CHECKING:
    from twopm_kit.vsies.index import UploadEntry

__all__ = ["DatasetRef"]

_FORMS: Final = {
    "index": re.compile("0x[0-9a-fA-F]{40}"),
    "contributor": re.compile("0x[0-9a-fA-F]{40}"),
    "root": re.compile("0x[0-9a-f]{64}"),
    "cid": re.compile("b[a-z2-7]{58,120}"),
}
_MOST: Final = 4_096  # bytes of JSON


@dataclass(frozen=True, repr=False)
class DatasetRef:
    """Where a contributed dataset is listed, and what it must be. Public.

    Attributes
    ----------
    chain_id : int
        Of the chain.
    index : str
        Address of the ``DataIndex`` contract.
    dataset_id, upload_id : int
        Numbers on chain.
    contributor : str
        Account that uploaded.
    root, cid : str
        0G storage root and IPFS content identifier of the ciphertext container.
    rows, size : int
        Rows of the table, and bytes in storage.
    """

    chain_id: int
    index: str
    dataset_id: int
    upload_id: int
    contributor: str
    root: str
    cid: str
    rows: int
    size: int

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            form = _FORMS.get(field.name)
            if form is None:
                right = type(value) is int and 0 < value < 2**256
            else:
                right = isinstance(value, str) and form.fullmatch(value) is not None
            if not right:
                raise IndexRefused(
                    f"a reference to a dataset has {field.name} = {str(value)[:80]!r}",
                    hint="pass what client.contribute(...) returned, or its to_json()",
                )

    @classmethod
    def of(cls, entry: "UploadEntry", chain_id: int, index: str) -> "DatasetRef":
        """Return the reference to an upload that was found in an index."""
        return cls(
            chain_id,
            index,
            entry.dataset_id,
            entry.upload_id,
            entry.contributor,
            entry.root,
            entry.cid,
            entry.rows,
            entry.size,
        )

    def to_json(self) -> str:
        """Return the reference as text to pass on."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> "DatasetRef":
        """Read a reference from anybody; `DataClient.fetch` compares it with the chain.

        Raises
        ------
        IndexRefused
            If it is not one.
        """
        content = text.encode(errors="replace") if isinstance(text, str) else text
        is_short = isinstance(content, bytes) and len(content) <= _MOST
        try:
            body: Any = load_json(content) if is_short else None
        except TwoPMError:
            body = None
        if not isinstance(body, dict) or set(body) != {field.name for field in fields(cls)}:
            raise IndexRefused(
                "this text is no reference to a dataset", hint="pass what the reference's to_json() returned"
            )
        return cls(**body)

    def __repr__(self) -> str:
        return (
            f"<DatasetRef: upload {self.upload_id} of dataset {self.dataset_id}, {self.rows:,} rows, "
            f"{self.size:,} bytes, root {self.root[:10]}…>"
        )

    def _repr_html_(self) -> str:
        return facts_table(
            {
                "upload": f"{self.upload_id} of dataset {self.dataset_id}",
                "rows": f"{self.rows:,}",
                "bytes": f"{self.size:,}",
                "root": self.root,
                "CID": self.cid,
                "contributor": self.contributor,
                "index": f"{self.index}, chain {self.chain_id}",
            }
        )
