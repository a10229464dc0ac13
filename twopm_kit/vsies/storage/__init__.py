"""Storage by content: 0G roots and IPFS CIDs over folders, memory, S3 and IPFS, checked at every read."""

from twopm_kit.vsies.storage.cid import content_id
from twopm_kit.vsies.storage.entries import EntryTree, entry_root, padded_entries, storage_root
from twopm_kit.vsies.storage.proof import SliceProof
from twopm_kit.vsies.storage.store import Store, StoredObject

__all__ = [
    "EntryTree",
    "SliceProof",
    "Store",
    "StoredObject",
    "content_id",
    "entry_root",
    "padded_entries",
    "storage_root",
]
