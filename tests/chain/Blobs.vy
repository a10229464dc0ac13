# pragma version 0.4.3
"""
@title A contract that looks at the blobs of its transactions, and adds commitments up
"""

# half of BLS12-381's base field, (p - 1) / 2, as it lies in two words: which of two y is the larger
HALF_HIGH: constant(uint256) = 17282741772707453034394598013407712875
HALF_LOW: constant(uint256) = 80617075055843030690312053732876818007934237714091801549733396136033114903893
G1_ADD: constant(address) = 0x000000000000000000000000000000000000000b
POINT_EVALUATION: constant(address) = 0x000000000000000000000000000000000000000A

seen: public(bytes32)
count: public(uint256)


@external
def keep():
    assert blobhash(0) != empty(bytes32), "no blob came along"
    self.seen = blobhash(0)
    self.count = 0
    for index: uint256 in range(6):
        if blobhash(index) != empty(bytes32):
            self.count += 1


@external
def keep_sum(left: Bytes[128], right: Bytes[128]):
    assert blobhash(0) == self._versioned_hash(self._sum(left, right)), "not the blob of the sum"
    self.seen = blobhash(0)


@external
@view
def look(index: uint256) -> bytes32:
    return blobhash(index)


@external
@view
def evaluate(hash: bytes32, at: bytes32, element: bytes32, commitment: Bytes[48], proof: Bytes[48]) -> uint256:
    answer: Bytes[64] = raw_call(
        POINT_EVALUATION,
        concat(hash, at, element, commitment, proof),
        max_outsize=64,
        is_static_call=True,
    )
    return convert(slice(answer, 0, 32), uint256)


@internal
@view
def _sum(left: Bytes[128], right: Bytes[128]) -> Bytes[128]:
    return raw_call(G1_ADD, concat(left, right), max_outsize=128, is_static_call=True)


@internal
@view
def _versioned_hash(point: Bytes[128]) -> bytes32:
    x_high: uint256 = convert(slice(point, 0, 32), uint256)
    y_high: uint256 = convert(slice(point, 64, 32), uint256)
    y_low: uint256 = convert(slice(point, 96, 32), uint256)
    x_high = x_high | (1 << 127)
    if y_high > HALF_HIGH or (y_high == HALF_HIGH and y_low > HALF_LOW):
        x_high = x_high | (1 << 125)
    compressed: Bytes[48] = concat(
        convert(convert(x_high, uint128), bytes16), convert(slice(point, 32, 32), bytes32)
    )
    digest: uint256 = convert(sha256(compressed), uint256)
    return convert((digest & (max_value(uint256) >> 8)) | (1 << 248), bytes32)
