# pragma version 0.4.3
# pragma evm-version prague
"""
@title DataIndex
@license Apache-2.0
@notice Where datasets are found. An owner registers the fields of a dataset; contributors upload to it: not
        their data, but the root under which the encrypted data is stored, how much of it there is, and the
        hashes of what it was made with. Validators whom the owner trusts attest that an upload holds what
        its schema promises.

Values never come here, neither in clear nor encrypted. Names and types of fields are public, and so are
roots, counts and hashes. Nothing that is here is ever erased: an upload is followed by a newer version of its
contributor's, or deprecated; a dataset is closed to more uploads.

Who may do what. Anybody registers datasets and uploads to open ones. The owner of a dataset says who attests
in it, closes it, and deprecates uploads. The owner of the index (dataset 0) may close any dataset and has no
other right. A contributor follows up and deprecates its own uploads. Ownership passes on in two steps.

An attestation carries two signatures (EIP-712), both bound to this chain and this contract. The allocator's
gives one task, for one schema, to one validator. The validator's says what it checked, of which upload, with
which root, by whom. So neither can be carried to another upload, contributor, contract or chain, and an
allocator's task counts once. Anybody may bring an attestation here: its force is in its signatures.

A root counts once in a dataset, whoever brings it first. Who copies a root out of a waiting transaction can
be first and gains nothing by it, since the data opens under another's key; the contributor encrypts again,
which gives another root.
"""

MAX_FIELDS: constant(uint256) = 256
MAX_ROWS: constant(uint256) = 2**48
MAX_SIZE: constant(uint256) = 2**56  # bytes
MAX_COUNT: constant(uint256) = 2**16 - 1  # of versions, and of attestations of one upload

# Types of a field. Zero: there is no such field.
FLOAT: constant(uint256) = 1
INT: constant(uint256) = 2
BOOL: constant(uint256) = 3
CATEGORY: constant(uint256) = 4

# Roles of attesters, as bits.
VALIDATOR: constant(uint256) = 1
ALLOCATOR: constant(uint256) = 2

DOMAIN: constant(bytes32) = keccak256(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
DOMAIN_NAME: constant(bytes32) = keccak256("2PM DataIndex")
DOMAIN_VERSION: constant(bytes32) = keccak256("1")
ASSIGNMENT: constant(bytes32) = keccak256(
    "Assignment(bytes32 taskId,bytes32 schema,address validatorAddress)"
)
VERDICT: constant(bytes32) = keccak256(
    "Verdict(bytes32 taskId,bytes32 schema,bytes32 uHash,bytes32 publicFieldsHash,"
    "address recipient,uint256 uploadId,bytes32 dataHash)"
)
# Half the order of secp256k1: of the two forms of a signature only the lower counts (EIP-2).
HALF_ORDER: constant(uint256) = 57896044618658097711785492504343953926418782139537452191302581570759080747168

# One word of an upload, from the lowest bit: contributor 160, block 48, version 16, attestations 16,
# deprecated 1.
BLOCK_AT: constant(uint256) = 160
VERSION_AT: constant(uint256) = 208
ATTESTED_AT: constant(uint256) = 224
DEPRECATED: constant(uint256) = 1 << 240
# Its other word: dataset 64, rows 64, size 64, previous upload 64.
ROWS_AT: constant(uint256) = 64
SIZE_AT: constant(uint256) = 128
PREVIOUS_AT: constant(uint256) = 192

BEYOND_ASCII: constant(uint256) = max_value(uint256) // 255 * 128  # the highest bit of every byte


struct Dataset:
    owner: address
    offered_to: address  # who may take the ownership over
    schema_hash: bytes32  # of the whole schema, ranges and rules too; zero when only fields were registered
    structure_hash: bytes32  # of names and types of the fields, in their order
    fields: uint256
    uploads: uint256
    registered_at: uint256  # block
    closed: bool


struct DatasetInfo:
    name: String[64]
    owner: address
    offered_to: address
    schema_hash: bytes32
    structure_hash: bytes32
    fields: uint256
    uploads: uint256
    registered_at: uint256
    closed: bool


struct Upload:
    state: uint256
    measures: uint256
    data_hash: bytes32  # storage root
    cid_digest: bytes32  # SHA-256 in the content identifier
    standard_hash: bytes32  # of the standardisation that was applied; zero for none
    key_fingerprint: bytes16  # of the public key that it is encrypted under


struct UploadInfo:
    dataset_id: uint256
    contributor: address
    data_hash: bytes32
    cid_digest: bytes32
    rows: uint256
    size: uint256
    schema_hash: bytes32
    standard_hash: bytes32
    key_fingerprint: bytes16
    version: uint256
    previous: uint256
    superseded_by: uint256
    attestations: uint256
    uploaded_at: uint256
    deprecated: bool


event DatasetRegistered:
    datasetId: indexed(uint256)
    owner: indexed(address)
    schemaHash: indexed(bytes32)
    name: String[64]
    fieldNames: DynArray[String[64], MAX_FIELDS]
    fieldTypes: DynArray[String[8], MAX_FIELDS]


event DatasetClosed:
    datasetId: indexed(uint256)
    by: indexed(address)


event OwnershipOffered:
    datasetId: indexed(uint256)
    owner: indexed(address)
    to: indexed(address)


event OwnershipTaken:
    datasetId: indexed(uint256)
    owner: indexed(address)


event RoleGranted:
    datasetId: indexed(uint256)
    account: indexed(address)
    role: uint256


event RoleRevoked:
    datasetId: indexed(uint256)
    account: indexed(address)
    role: uint256


event DataUploaded:
    uploadId: indexed(uint256)
    datasetId: indexed(uint256)
    contributor: indexed(address)
    dataHash: bytes32
    cidDigest: bytes32
    rows: uint256
    size: uint256
    schemaHash: bytes32
    standardHash: bytes32
    keyFingerprint: bytes16
    version: uint256
    previous: uint256


event Deprecated:
    uploadId: indexed(uint256)
    by: indexed(address)
    reasonHash: bytes32


event Attested:
    uploadId: indexed(uint256)
    validator: indexed(address)
    allocator: indexed(address)
    taskId: bytes32
    schema: bytes32
    uHash: bytes32
    publicFieldsHash: bytes32


dataset_count: public(uint256)
upload_count: public(uint256)
# Block of the deployment: no event is older.
first_block: public(immutable(uint256))
# The upload for which an allocator's task was counted; zero: not yet.
counted: public(HashMap[address, HashMap[bytes32, uint256]])
# The upload that brought a root to a dataset; zero: none.
upload_of: public(HashMap[uint256, HashMap[bytes32, uint256]])
_names: HashMap[uint256, String[64]]
_datasets: HashMap[uint256, Dataset]
_kinds: HashMap[uint256, HashMap[bytes32, uint256]]
_roles: HashMap[uint256, HashMap[address, uint256]]
_uploads: HashMap[uint256, Upload]
_superseded_by: HashMap[uint256, uint256]


@deploy
def __init__():
    first_block = block.number
    self._datasets[0].owner = msg.sender


# Datasets ------------------------------------------------------------------------------------------------


@external
def registerDataset(
    name: String[64],
    fieldNames: DynArray[String[64], MAX_FIELDS],
    fieldTypes: DynArray[String[8], MAX_FIELDS],
    schemaHash: bytes32 = empty(bytes32),
) -> uint256:
    """
    @notice Register the fields of a dataset. They are fixed for good; register again to change them.
    @param name What people call it; need not be unique
    @param fieldNames Names of the fields, 1 to 64 bytes of UTF-8 each, all different
    @param fieldTypes For each field "float", "int", "bool" or "category"
    @param schemaHash Of the whole schema, which uploads then have to name
    @return The dataset's number, from 1
    """
    assert len(name) > 0, "name is empty"
    assert self._is_text(convert(name, Bytes[64])), "name is not UTF-8"
    assert len(fieldNames) > 0, "no fields"
    assert len(fieldNames) == len(fieldTypes), "one type for each field"

    self.dataset_count += 1
    dataset_id: uint256 = self.dataset_count
    structure: bytes32 = convert(len(fieldNames), bytes32)
    for i: uint256 in range(len(fieldNames), bound=MAX_FIELDS):
        assert len(fieldNames[i]) > 0, "field name is empty"
        assert self._is_text(convert(fieldNames[i], Bytes[64])), "field name is not UTF-8"
        kind: uint256 = self._kind(fieldTypes[i])
        assert kind != 0, "unknown field type"
        key: bytes32 = keccak256(fieldNames[i])
        assert self._kinds[dataset_id][key] == 0, "field name is repeated"
        self._kinds[dataset_id][key] = kind
        structure = keccak256(concat(structure, key, convert(kind, bytes32)))

    self._names[dataset_id] = name
    self._datasets[dataset_id] = Dataset(
        owner=msg.sender,
        offered_to=empty(address),
        schema_hash=schemaHash,
        structure_hash=structure,
        fields=len(fieldNames),
        uploads=0,
        registered_at=block.number,
        closed=False,
    )
    log DatasetRegistered(
        datasetId=dataset_id,
        owner=msg.sender,
        schemaHash=schemaHash,
        name=name,
        fieldNames=fieldNames,
        fieldTypes=fieldTypes,
    )
    return dataset_id


@external
@view
def getFieldType(datasetId: uint256, fieldName: String[64]) -> String[8]:
    """
    @notice The type of a dataset's field.
    @return "float", "int", "bool" or "category"
    """
    self._require_dataset(datasetId)
    kind: uint256 = self._kinds[datasetId][keccak256(fieldName)]
    assert kind != 0, "unknown field"
    if kind == FLOAT:
        return "float"
    if kind == INT:
        return "int"
    if kind == BOOL:
        return "bool"
    return "category"


@internal
@pure
def _kind(name: String[8]) -> uint256:
    if name == "float":
        return FLOAT
    if name == "int":
        return INT
    if name == "bool":
        return BOOL
    if name == "category":
        return CATEGORY
    return 0


@internal
@pure
def _is_text(text: Bytes[64]) -> bool:
    """
    @dev Whether the bytes are UTF-8 (RFC 3629, section 4). Were they not, one bad name would keep everybody
         from reading the log.
    """
    padded: Bytes[128] = concat(text, empty(bytes32), empty(bytes32))
    words: uint256[2] = [
        extract32(padded, 0, output_type=uint256), extract32(padded, 32, output_type=uint256)
    ]
    if (words[0] | words[1]) & BEYOND_ASCII == 0:
        return True
    more: uint256 = 0  # bytes of the present character that are still to come
    low: uint256 = 128  # the next of them lies between these two
    high: uint256 = 191
    for i: uint256 in range(len(text), bound=64):
        byte: uint256 = (words[i // 32] >> (248 - 8 * (i % 32))) & 255
        if more > 0:
            if byte < low or byte > high:
                return False
            low = 128
            high = 191
            more -= 1
        elif byte >= 128:
            if byte < 194 or byte > 244:
                return False
            more = 1
            if byte >= 240:
                more = 3
            elif byte >= 224:
                more = 2
            if byte == 224:
                low = 160
            elif byte == 237:
                high = 159
            elif byte == 240:
                low = 144
            elif byte == 244:
                high = 143
    return more == 0


@external
def close(datasetId: uint256):
    """
    @notice Take no more uploads to a dataset. What was uploaded stays, and can still be attested.
    """
    self._require_dataset(datasetId)
    assert (
        msg.sender == self._datasets[datasetId].owner or msg.sender == self._datasets[0].owner
    ), "only an owner closes a dataset"
    assert not self._datasets[datasetId].closed, "dataset is closed"
    self._datasets[datasetId].closed = True
    log DatasetClosed(datasetId=datasetId, by=msg.sender)


@external
def offer(datasetId: uint256, to: address):
    """
    @notice Offer the ownership of a dataset, or with number 0 of the index; it passes on when it is taken.
    @param to Who may take it; zero takes an offer back
    """
    self._require_owner(datasetId)
    self._datasets[datasetId].offered_to = to
    log OwnershipOffered(datasetId=datasetId, owner=msg.sender, to=to)


@external
def take(datasetId: uint256):
    """
    @notice Take over the ownership that was offered.
    """
    assert datasetId <= self.dataset_count, "unknown dataset"
    assert msg.sender == self._datasets[datasetId].offered_to, "ownership was not offered to you"
    self._datasets[datasetId].owner = msg.sender
    self._datasets[datasetId].offered_to = empty(address)
    log OwnershipTaken(datasetId=datasetId, owner=msg.sender)


@external
def grant(datasetId: uint256, account: address, role: uint256):
    """
    @notice Trust an account's signature in a dataset.
    @param role 1: as a validator's; 2: as an allocator's
    """
    self._require_dataset(datasetId)
    self._require_owner(datasetId)
    assert role == VALIDATOR or role == ALLOCATOR, "unknown role"
    assert account != empty(address), "account is zero"
    assert self._roles[datasetId][account] & role == 0, "role was granted before"
    self._roles[datasetId][account] |= role
    log RoleGranted(datasetId=datasetId, account=account, role=role)


@external
def revoke(datasetId: uint256, account: address, role: uint256):
    """
    @notice Trust it no more. Attestations that were counted stay.
    """
    self._require_dataset(datasetId)
    self._require_owner(datasetId)
    assert role == VALIDATOR or role == ALLOCATOR, "unknown role"
    assert self._roles[datasetId][account] & role != 0, "role was not granted"
    self._roles[datasetId][account] ^= role
    log RoleRevoked(datasetId=datasetId, account=account, role=role)


@internal
@view
def _require_dataset(dataset_id: uint256):
    assert dataset_id >= 1 and dataset_id <= self.dataset_count, "unknown dataset"


@internal
@view
def _require_owner(dataset_id: uint256):
    assert dataset_id <= self.dataset_count, "unknown dataset"
    assert msg.sender == self._datasets[dataset_id].owner, "only the owner may do this"


# Uploads -------------------------------------------------------------------------------------------------


@external
def uploadData(
    datasetId: uint256,
    dataHash: bytes32,
    cidDigest: bytes32,
    rows: uint256,
    size: uint256,
    structureHash: bytes32,
    schemaHash: bytes32,
    standardHash: bytes32,
    keyFingerprint: bytes16,
    previous: uint256,
) -> uint256:
    """
    @notice List encrypted data that is in storage already, if it has the structure of the dataset.
    @param dataHash Storage root; counts once in a dataset
    @param cidDigest SHA-256 in the content identifier
    @param rows Rows of the data
    @param size Bytes in storage
    @param structureHash Of the names and types of the data's fields: has to be the dataset's
    @param schemaHash Of the schema that it was validated with: has to be the dataset's
    @param standardHash Of the standardisation that was applied; zero for none
    @param keyFingerprint Of the public key that it is encrypted under
    @param previous An upload of the sender's that this one supersedes; zero for none
    @return The upload's number, from 1
    """
    self._require_dataset(datasetId)
    assert not self._datasets[datasetId].closed, "dataset is closed"
    assert structureHash == self._datasets[datasetId].structure_hash, "fields are not the dataset's"
    assert schemaHash == self._datasets[datasetId].schema_hash, "schema is not the dataset's"
    assert dataHash != empty(bytes32), "data hash is zero"
    assert cidDigest != empty(bytes32), "content identifier is zero"
    assert keyFingerprint != empty(bytes16), "key fingerprint is zero"
    assert rows >= 1 and rows <= MAX_ROWS, "rows out of range"
    assert size >= 1 and size <= MAX_SIZE, "size out of range"
    assert self.upload_of[datasetId][dataHash] == 0, "already uploaded"

    self.upload_count += 1
    upload_id: uint256 = self.upload_count
    version: uint256 = 1
    if previous != 0:
        before: uint256 = self._uploads[previous].state
        assert previous < upload_id, "unknown upload"
        assert self._contributor(before) == msg.sender, "only the contributor supersedes an upload"
        before_in: uint256 = self._dataset_of(self._uploads[previous].measures)
        assert before_in == datasetId, "previous is of another dataset"
        assert self._superseded_by[previous] == 0, "already superseded"
        version = ((before >> VERSION_AT) & MAX_COUNT) + 1
        assert version <= MAX_COUNT, "too many versions"
        self._superseded_by[previous] = upload_id

    self._uploads[upload_id] = Upload(
        state=convert(msg.sender, uint256) | (block.number << BLOCK_AT) | (version << VERSION_AT),
        measures=datasetId | (rows << ROWS_AT) | (size << SIZE_AT) | (previous << PREVIOUS_AT),
        data_hash=dataHash,
        cid_digest=cidDigest,
        standard_hash=standardHash,
        key_fingerprint=keyFingerprint,
    )
    self.upload_of[datasetId][dataHash] = upload_id
    self._datasets[datasetId].uploads += 1
    log DataUploaded(
        uploadId=upload_id,
        datasetId=datasetId,
        contributor=msg.sender,
        dataHash=dataHash,
        cidDigest=cidDigest,
        rows=rows,
        size=size,
        schemaHash=schemaHash,
        standardHash=standardHash,
        keyFingerprint=keyFingerprint,
        version=version,
        previous=previous,
    )
    return upload_id


@external
def deprecate(uploadId: uint256, reasonHash: bytes32):
    """
    @notice Say that an upload is not to be used any more; its contributor or the dataset's owner may.
    @param reasonHash Of the reason, in words that are kept elsewhere; zero for none
    """
    state: uint256 = self._uploads[uploadId].state
    assert state != 0, "unknown upload"
    owner: address = self._datasets[self._dataset_of(self._uploads[uploadId].measures)].owner
    assert (
        msg.sender == self._contributor(state) or msg.sender == owner
    ), "only contributor or owner deprecates"
    assert state & DEPRECATED == 0, "already deprecated"
    self._uploads[uploadId].state = state | DEPRECATED
    log Deprecated(uploadId=uploadId, by=msg.sender, reasonHash=reasonHash)


@internal
@pure
def _contributor(state: uint256) -> address:
    return convert(state & (2**160 - 1), address)


@internal
@pure
def _dataset_of(measures: uint256) -> uint256:
    return measures & (2**64 - 1)


# Attestations --------------------------------------------------------------------------------------------


@external
def attest(
    uploadId: uint256,
    taskId: bytes32,
    schema: bytes32,
    uHash: bytes32,
    publicFieldsHash: bytes32,
    validatorSignature: Bytes[65],
    validatorAddress: address,
    allocatorSignature: Bytes[65],
):
    """
    @notice Count an attestation for an upload, if both of its signatures are right and trusted.
    @param taskId The allocator's number for this piece of work; counts once
    @param schema Hash of the schema that the upload was checked against
    @param uHash Salted hash that identifies the contributor's data without showing it
    @param publicFieldsHash Of the public facts: what was checked, and with which result
    @param validatorSignature Over a Verdict, r ‖ s ‖ v
    @param validatorAddress Who checked
    @param allocatorSignature Over an Assignment, r ‖ s ‖ v
    """
    u: Upload = self._uploads[uploadId]
    assert u.state != 0, "unknown upload"
    assert u.state & DEPRECATED == 0, "upload is deprecated"
    dataset_id: uint256 = self._dataset_of(u.measures)
    contributor: address = self._contributor(u.state)
    assert schema == self._datasets[dataset_id].schema_hash, "attestation is for another schema"
    assert schema != empty(bytes32), "dataset has no schema"

    domain: bytes32 = keccak256(abi_encode(DOMAIN, DOMAIN_NAME, DOMAIN_VERSION, chain.id, self))
    allocator: address = self._signer(
        domain, keccak256(abi_encode(ASSIGNMENT, taskId, schema, validatorAddress)), allocatorSignature
    )
    assert self._roles[dataset_id][allocator] & ALLOCATOR != 0, "allocator is not trusted here"
    validator: address = self._signer(
        domain,
        keccak256(
            abi_encode(
                VERDICT, taskId, schema, uHash, publicFieldsHash, contributor, uploadId, u.data_hash
            )
        ),
        validatorSignature,
    )
    assert validator == validatorAddress, "validator has not signed this"
    assert self._roles[dataset_id][validator] & VALIDATOR != 0, "validator is not trusted here"
    assert allocator != validator, "allocator and validator are one"
    assert allocator != contributor and validator != contributor, "contributor attests itself"
    assert self.counted[allocator][taskId] == 0, "task was counted before"
    assert (u.state >> ATTESTED_AT) & MAX_COUNT < MAX_COUNT, "too many attestations"

    self.counted[allocator][taskId] = uploadId
    self._uploads[uploadId].state = u.state + (1 << ATTESTED_AT)
    log Attested(
        uploadId=uploadId,
        validator=validator,
        allocator=allocator,
        taskId=taskId,
        schema=schema,
        uHash=uHash,
        publicFieldsHash=publicFieldsHash,
    )


@internal
@pure
def _signer(domain: bytes32, struct_hash: bytes32, signature: Bytes[65]) -> address:
    """
    @dev Who signed typed data (EIP-712). Of each signature exactly one form counts.
    """
    assert len(signature) == 65, "signature is not 65 bytes"
    s: uint256 = extract32(signature, 32, output_type=uint256)
    v: uint256 = convert(slice(signature, 64, 1), uint256)
    assert s <= HALF_ORDER, "signature is not in its lower form"
    assert v == 27 or v == 28, "signature ends neither in 27 nor in 28"
    digest: bytes32 = keccak256(concat(b"\x19\x01", domain, struct_hash))
    signer: address = ecrecover(digest, v, extract32(signature, 0, output_type=uint256), s)
    assert signer != empty(address), "signature is nobody's"
    return signer


# Views ---------------------------------------------------------------------------------------------------


@external
@view
def dataset(datasetId: uint256) -> DatasetInfo:
    """
    @notice Everything about a dataset; all zero when there is none. Number 0 names the owner of the index.
    """
    d: Dataset = self._datasets[datasetId]
    return DatasetInfo(
        name=self._names[datasetId],
        owner=d.owner,
        offered_to=d.offered_to,
        schema_hash=d.schema_hash,
        structure_hash=d.structure_hash,
        fields=d.fields,
        uploads=d.uploads,
        registered_at=d.registered_at,
        closed=d.closed,
    )


@external
@view
def upload(uploadId: uint256) -> UploadInfo:
    """
    @notice Everything about an upload; all zero when there is none.
    """
    u: Upload = self._uploads[uploadId]
    dataset_id: uint256 = self._dataset_of(u.measures)
    return UploadInfo(
        dataset_id=dataset_id,
        contributor=self._contributor(u.state),
        data_hash=u.data_hash,
        cid_digest=u.cid_digest,
        rows=(u.measures >> ROWS_AT) & (2**64 - 1),
        size=(u.measures >> SIZE_AT) & (2**64 - 1),
        schema_hash=self._datasets[dataset_id].schema_hash,
        standard_hash=u.standard_hash,
        key_fingerprint=u.key_fingerprint,
        version=(u.state >> VERSION_AT) & MAX_COUNT,
        previous=u.measures >> PREVIOUS_AT,
        superseded_by=self._superseded_by[uploadId],
        attestations=(u.state >> ATTESTED_AT) & MAX_COUNT,
        uploaded_at=(u.state >> BLOCK_AT) & (2**48 - 1),
        deprecated=u.state & DEPRECATED != 0,
    )


@external
@view
def has_role(datasetId: uint256, account: address, role: uint256) -> bool:
    """
    @notice Whether a dataset trusts an account as a validator (1), as an allocator (2), or as both (3).
    """
    return role != 0 and self._roles[datasetId][account] & role == role
