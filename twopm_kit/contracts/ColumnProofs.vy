# pragma version 0.4.3
# pragma evm-version prague
"""
@title ColumnProofs
@license Apache-2.0
@notice Where the owner of a column proves what its values are like, and nobody sees one of them: that each
        lies in a range, and that their sum, or the sum of their squares, lies between two bounds.

A column of up to 2,048 whole numbers is committed to as an EIP-4844 blob: value minus `low` in the first half
of its elements, random numbers in the second. The first half are values on H, the 2,048th roots of unity;
Z(X) = X**2048 - 1 vanishes on H.

Range. Each value is a sum of bits with public weights that add up to high - low exactly: 1, 2, 4, … and what
is left for the last. The prover commits to one polynomial for each bit. With a random gamma,

    sum of gamma**i (b_i**2 - b_i)  +  gamma**k (sum of w_i b_i - c)  +  gamma**(k+1) S (c - f)  =  Z q

holds as an equation of polynomials if and only if, on all of H, bits are bits and add up to the values, and
elements that are no rows (S is 1 there, and 0 on rows) hold f, the value nearest to zero (but for a chance of
2**-240). It is checked at one random point z: the b_i are opened there, c and q stay inside one
combined commitment. Total. With t, a column of bits of how far the total is above its least, e = c or its
square (c + low)**2, and n = 2048:

    mask + rho (e - W t - least/n)  -  X g  +  gamma (t**2 - t)  =  Z q,     degree of g below n - 1

holds if and only if the sum over H of e is least plus the weighted bits: all powers of X from 1 to n - 1 sum to
zero on H. The degree is shown by a second commitment, to X**2049 g, that no higher one has (Aurora's sumcheck,
Ben-Sasson and others 2019; commitments, Kate, Zaverucha and Goldberg 2010).

All challenges are hashes of everything before them, beginning with chain, contract, dataset, prover, column,
part and claim (Fiat and Shamir 1986): a proof is worth nothing to anybody else, anywhere else.
"""

ROWS: constant(uint256) = 2048
MAX_BITS: constant(uint256) = 32  # of a value
MAX_TOTAL_BITS: constant(uint256) = 128
MAX_VALUE: constant(int256) = 2**63
MAX_TOTAL: constant(int256) = 2**127

RANGE_LABEL: constant(bytes32) = keccak256("twopm/vsies/v1/column/range")
TOTAL_LABEL: constant(bytes32) = keccak256("twopm/vsies/v1/column/total")

# Order of BLS12-381's groups, a generator of H, and 1/2048.
R: constant(uint256) = 52435875175126190479447740508185965837690552500527637822603658699938581184513
ROOT: constant(uint256) = 49307615728544765012166121802278658070711169839041683575071795236746050763237
PER_ROW: constant(uint256) = 52410271720450835894252697666140953159058867660439489561948090507214001799169
# Half of the base field's prime: a compressed point tells whether y is larger.
HALF_HIGH: constant(uint256) = 17282741772707453034394598013407712875
HALF_LOW: constant(uint256) = 80617075055843030690312053732876818007934237714091801549733396136033114903893

# Precompiles: modular powers (EIP-198), point evaluation (EIP-4844), sums of multiples (EIP-2537).
MODEXP: constant(address) = 0x0000000000000000000000000000000000000005
EVALUATE: constant(address) = 0x000000000000000000000000000000000000000A
COMBINE: constant(address) = 0x000000000000000000000000000000000000000C

# Points of a range proof: the bits, the column and two parts of the quotient; five words each.
RANGE_WORDS: constant(uint256) = 5 * 35
TOTAL_WORDS: constant(uint256) = 5 * 7


struct Column:
    commitment: bytes32  # keccak256 of the point
    rows: uint256  # the others of the 2,048 are the value nearest to zero
    low: int256
    high: int256
    proven_at: uint256  # block


event RangeProved:
    dataset: indexed(uint256)
    prover: indexed(address)
    column: indexed(bytes32)
    part: uint256
    rows: uint256
    low: int256
    high: int256
    commitment: bytes32


event TotalProved:
    dataset: indexed(uint256)
    prover: indexed(address)
    column: indexed(bytes32)
    part: uint256
    squares: bool
    least: int256
    most: int256


# Of each part of a column: keccak256 of the point; and block, rows, low and high in one word.
_commitments: HashMap[bytes32, bytes32]
_ranges: HashMap[bytes32, uint256]
# Of sum and squares: least and most in one word.
_bounds: HashMap[bytes32, HashMap[bool, uint256]]


@external
def prove_range(
    dataset: uint256,
    column: bytes32,
    part: uint256,
    rows: uint256,
    low: int256,
    high: int256,
    commitment: uint256[4],
    bits: DynArray[uint256[4], MAX_BITS],
    quotient: uint256[4][2],
    values: DynArray[uint256, MAX_BITS],
    opening: Bytes[48],
):
    """
    @notice Prove that each of 2,048 values lies between low and high, both included. Once for each part.
    @param dataset What the column belongs to; any number that prover and readers agree on
    @param column Hash of the column's name
    @param rows How many of the 2,048 are rows of the table
    @param commitment The column's point, EIP-2537
    @param bits Points of the bits, least first
    @param quotient Points of the two parts of the quotient
    @param values The bits' polynomials at the challenge
    @param opening Proof for the combined commitment at the challenge
    """
    assert rows >= 1 and rows <= ROWS, "rows out of range"
    assert low >= -MAX_VALUE and high < MAX_VALUE and low < high, "range is empty or too wide"
    width: uint256 = convert(high - low, uint256)
    k: uint256 = len(bits)
    assert k >= 1 and width >> (k - 1) == 1, "one point for each bit of the range"
    assert len(values) == k, "one value for each bit of the range"
    place: bytes32 = self._place(dataset, msg.sender, column, part)
    assert self._ranges[place] == 0, "already proven"

    state: bytes32 = keccak256(
        abi_encode(
            RANGE_LABEL, chain.id, self, dataset, msg.sender, column, part, rows, low, high, commitment
        )
    )
    state = keccak256(abi_encode(state, bits))
    gamma: uint256 = convert(state, uint256) % R
    state = keccak256(abi_encode(state, quotient))
    z: uint256 = convert(state, uint256) % R
    state = keccak256(abi_encode(state, values))
    delta: uint256 = convert(state, uint256) % R

    words: uint256[RANGE_WORDS] = empty(uint256[RANGE_WORDS])
    weight: uint256 = 1
    power: uint256 = 1
    batch: uint256 = delta
    binary: uint256 = 0
    sum: uint256 = 0
    y: uint256 = 0
    at: uint256 = 0
    for i: uint256 in range(k, bound=MAX_BITS):
        opened: uint256 = values[i]
        assert opened < R, "value is no field element"
        binary = uint256_addmod(
            binary, uint256_mulmod(power, uint256_mulmod(opened, uint256_addmod(opened, R - 1, R), R), R), R
        )
        if i == k - 1:
            weight = width - (weight - 1)
        sum = uint256_addmod(sum, uint256_mulmod(weight, opened, R), R)
        y = uint256_addmod(y, uint256_mulmod(batch, opened, R), R)
        words[at] = bits[i][0]
        words[at + 1] = bits[i][1]
        words[at + 2] = bits[i][2]
        words[at + 3] = bits[i][3]
        words[at + 4] = batch
        at += 5
        weight = weight << 1
        power = uint256_mulmod(power, gamma, R)
        batch = uint256_mulmod(batch, delta, R)
    y = uint256_addmod(y, uint256_addmod(binary, uint256_mulmod(power, sum, R), R), R)

    vanishing: uint256 = 0
    cut: uint256 = 0
    vanishing, cut = self._powers(z)
    # gamma**(k+1) S(z): what the elements hold that are no rows
    spare: uint256 = uint256_mulmod(
        uint256_mulmod(power, gamma, R), self._spare_at(z, vanishing, rows), R
    )
    filler: uint256 = convert(min(max(low, 0), high) - low, uint256)
    y = uint256_addmod(y, R - uint256_mulmod(spare, filler, R), R)
    scalars: uint256[3] = [
        uint256_addmod(power, R - spare, R), vanishing, uint256_mulmod(vanishing, cut, R)
    ]
    points: uint256[4][3] = [commitment, quotient[0], quotient[1]]
    for i: uint256 in range(3):
        for j: uint256 in range(4):
            words[at + j] = points[i][j]
        words[at + 4] = scalars[i]
        at += 5
    self._open(slice(abi_encode(words), 0, 32 * at), z, y, opening)

    self._commitments[place] = keccak256(abi_encode(commitment))
    self._ranges[place] = (
        (block.number << 144)
        | (rows << 128)
        | (convert(low + MAX_VALUE, uint256) << 64)
        | convert(high + MAX_VALUE, uint256)
    )
    log RangeProved(
        dataset=dataset,
        prover=msg.sender,
        column=column,
        part=part,
        rows=rows,
        low=low,
        high=high,
        commitment=keccak256(abi_encode(commitment)),
    )


@external
def prove_total(
    dataset: uint256,
    column: bytes32,
    part: uint256,
    squares: bool,
    least: int256,
    most: int256,
    commitment: uint256[4],
    points: uint256[4][6],
    bit: uint256,
    opened: uint256,
    opening: Bytes[48],
):
    """
    @notice Prove that the sum of a column's rows, or of their squares, lies between least and most, both
            included. The range of the same part must have been proven before: sums cannot run over then.
    @param points Of the bits, the mask, g, X**2049 g, and the two parts of the quotient
    @param bit The bits' polynomial at the challenge
    @param opened The column's polynomial at the challenge, for squares; otherwise zero
    @param opening Proof for the combined commitment at the challenge
    """
    place: bytes32 = self._place(dataset, msg.sender, column, part)
    found: Column = self._found(place)
    assert found.proven_at != 0, "prove the range first"
    assert found.commitment == keccak256(abi_encode(commitment)), "another commitment"
    assert least < most and least > -MAX_TOTAL and most < MAX_TOTAL, "bounds are empty or too wide"
    assert bit < R and opened < R, "value is no field element"
    assert squares or opened == 0, "only squares open the column"
    assert self._bounds[place][squares] == 0, "already proven"

    state: bytes32 = keccak256(
        abi_encode(
            TOTAL_LABEL,
            chain.id,
            self,
            dataset,
            msg.sender,
            column,
            part,
            found.rows,
            found.low,
            found.high,
            squares,
            least,
            most,
            commitment,
        )
    )
    state = keccak256(abi_encode(state, points[0], points[1]))
    rho: uint256 = convert(state, uint256) % R
    gamma: uint256 = convert(keccak256(state), uint256) % R
    state = keccak256(abi_encode(state, points[2], points[3], points[4], points[5]))
    z: uint256 = convert(state, uint256) % R
    state = keccak256(abi_encode(state, bit, opened))
    delta: uint256 = convert(state, uint256) % R
    delta_2: uint256 = uint256_mulmod(delta, delta, R)

    vanishing: uint256 = 0
    cut: uint256 = 0
    vanishing, cut = self._powers(z)
    raised: uint256 = uint256_mulmod(uint256_addmod(vanishing, 1, R), z, R)  # z**2049

    # rho (W t + least / n) - gamma (t**2 - t) [- rho (c + low)**2], and the openings
    y: uint256 = uint256_mulmod(
        rho,
        uint256_addmod(
            uint256_mulmod(self._weights_at(z, vanishing, convert(most - least, uint256)), bit, R),
            uint256_mulmod(self._element(self._least(found, squares, least)), PER_ROW, R),
            R,
        ),
        R,
    )
    y = uint256_addmod(
        y,
        R - uint256_mulmod(gamma, uint256_mulmod(bit, uint256_addmod(bit, R - 1, R), R), R),
        R,
    )
    y = uint256_addmod(y, uint256_mulmod(delta, bit, R), R)
    of_column: uint256 = rho
    if squares:
        of_column = uint256_mulmod(delta_2, delta, R)
        x: uint256 = uint256_addmod(opened, self._element(found.low), R)
        y = uint256_addmod(y, R - uint256_mulmod(rho, uint256_mulmod(x, x, R), R), R)
        y = uint256_addmod(y, uint256_mulmod(of_column, opened, R), R)

    scalars: uint256[6] = [
        delta,
        1,
        # -z of the equation, and -z**2049 of the comparison with X**2049 g
        R - uint256_addmod(z, uint256_mulmod(delta_2, raised, R), R),
        delta_2,
        R - vanishing,
        R - uint256_mulmod(vanishing, cut, R),
    ]
    words: uint256[TOTAL_WORDS] = empty(uint256[TOTAL_WORDS])
    for i: uint256 in range(6):
        for j: uint256 in range(4):
            words[5 * i + j] = points[i][j]
        words[5 * i + 4] = scalars[i]
    for j: uint256 in range(4):
        words[30 + j] = commitment[j]
    words[34] = of_column
    self._open(abi_encode(words), z, y, opening)

    self._bounds[place][squares] = (convert(least + MAX_TOTAL, uint256) << 128) | convert(
        most + MAX_TOTAL, uint256
    )
    log TotalProved(
        dataset=dataset,
        prover=msg.sender,
        column=column,
        part=part,
        squares=squares,
        least=least,
        most=most,
    )


# What is proven ------------------------------------------------------------------------------------------


@external
@view
def proven(dataset: uint256, prover: address, column: bytes32, part: uint256) -> Column:
    """
    @notice What is known of a part of a column; all zero when nothing is.
    """
    return self._found(self._place(dataset, prover, column, part))


@external
@view
def bounded(dataset: uint256, prover: address, column: bytes32, part: uint256, squares: bool) -> (
    bool, int256, int256
):
    """
    @notice Whether bounds of the sum, or of the sum of squares, are proven, and which.
    """
    word: uint256 = self._bounds[self._place(dataset, prover, column, part)][squares]
    if word == 0:
        return False, 0, 0
    return (
        True,
        convert(word >> 128, int256) - MAX_TOTAL,
        convert(word & (2**128 - 1), int256) - MAX_TOTAL,
    )


# Inside --------------------------------------------------------------------------------------------------


@internal
@pure
def _place(dataset: uint256, prover: address, column: bytes32, part: uint256) -> bytes32:
    return keccak256(abi_encode(dataset, prover, column, part))


@internal
@view
def _found(place: bytes32) -> Column:
    word: uint256 = self._ranges[place]
    if word == 0:
        return empty(Column)
    return Column(
        commitment=self._commitments[place],
        rows=(word >> 128) & (2**16 - 1),
        low=convert((word >> 64) & (2**64 - 1), int256) - MAX_VALUE,
        high=convert(word & (2**64 - 1), int256) - MAX_VALUE,
        proven_at=word >> 144,
    )


@internal
@pure
def _element(number: int256) -> uint256:
    if number < 0:
        return R - convert(-number, uint256) % R
    return convert(number, uint256) % R


@internal
@pure
def _least(found: Column, squares: bool, least: int256) -> int256:
    """
    @dev The least total over all 2,048 elements: rows that are no rows hold the value nearest to zero, and a
         sum is one of values minus low.
    """
    spare: int256 = convert(ROWS - found.rows, int256)
    filler: int256 = min(max(found.low, 0), found.high)
    if squares:
        return least + spare * filler * filler
    return least + spare * filler - convert(ROWS, int256) * found.low


@internal
@pure
def _powers(z: uint256) -> (uint256, uint256):
    """
    @dev z**2048 - 1 and z**3072.
    """
    power: uint256 = z
    for _: uint256 in range(10):
        power = uint256_mulmod(power, power, R)
    square: uint256 = uint256_mulmod(power, power, R)
    return uint256_addmod(square, R - 1, R), uint256_mulmod(power, square, R)


@internal
@view
def _inverse(number: uint256) -> uint256:
    return convert(
        raw_call(
            MODEXP,
            abi_encode(convert(32, uint256), convert(32, uint256), convert(32, uint256), number, R - 2, R),
            max_outsize=32,
            is_static_call=True,
        ),
        uint256,
    )


@internal
@view
def _spare_at(z: uint256, vanishing: uint256, rows: uint256) -> uint256:
    """
    @dev S(z): the polynomial that is 1 on the points of the elements from `rows` on, and 0 on the others of H.
         In a blob's order an aligned run of m = 2**j elements are the roots of X**m = h for some h, over which
         Lagrange's polynomials add up to Z(X)/n * m h / (X**m - h); there are at most twelve such runs.
    """
    if rows == ROWS:
        return 0
    # the point of element `rows`: the generator to the reversed bits
    h: uint256 = 1
    root: uint256 = ROOT
    for i: uint256 in range(11):
        if (rows >> (10 - i)) & 1 == 1:
            h = uint256_mulmod(h, root, R)
        root = uint256_mulmod(root, root, R)
    x: uint256 = z
    over: uint256 = h
    under: uint256 = uint256_addmod(x, R - h, R)
    for j: uint256 in range(11):
        if (rows >> j) & 1 == 0:  # the run beside the one with `rows` comes after it
            h_beside: uint256 = R - h
            factor: uint256 = uint256_addmod(x, h, R)
            over = uint256_addmod(
                uint256_mulmod(over, factor, R),
                uint256_mulmod(uint256_mulmod(1 << j, h_beside, R), under, R),
                R,
            )
            under = uint256_mulmod(under, factor, R)
        h = uint256_mulmod(h, h, R)
        x = uint256_mulmod(x, x, R)
    return uint256_mulmod(
        uint256_mulmod(over, self._inverse(under), R), uint256_mulmod(vanishing, PER_ROW, R), R
    )


@internal
@view
def _weights_at(z: uint256, vanishing: uint256, width: uint256) -> uint256:
    """
    @dev W(z): the polynomial that is 1, 2, 4, … and what is left of the width on the first points of H, and
         zero on all others. Lagrange's formula, with one division for all points.
    """
    points: uint256[MAX_TOTAL_BITS] = empty(uint256[MAX_TOTAL_BITS])
    before: uint256[MAX_TOTAL_BITS] = empty(uint256[MAX_TOTAL_BITS])
    count: uint256 = 0
    point: uint256 = 1
    total: uint256 = 1
    for i: uint256 in range(MAX_TOTAL_BITS):
        if width >> i == 0:
            break
        points[i] = point
        before[i] = total
        total = uint256_mulmod(total, uint256_addmod(z, R - point, R), R)
        point = uint256_mulmod(point, ROOT, R)
        count += 1
    rest: uint256 = self._inverse(total)
    found: uint256 = 0
    for j: uint256 in range(count, bound=MAX_TOTAL_BITS):
        i: uint256 = count - 1 - j
        weight: uint256 = 1 << i
        if j == 0:
            weight = width - (weight - 1)
        inverse: uint256 = uint256_mulmod(rest, before[i], R)
        rest = uint256_mulmod(rest, uint256_addmod(z, R - points[i], R), R)
        found = uint256_addmod(
            found, uint256_mulmod(weight, uint256_mulmod(points[i], inverse, R), R), R
        )
    return uint256_mulmod(found, uint256_mulmod(vanishing, PER_ROW, R), R)


@internal
@view
def _open(multiples: Bytes[32 * RANGE_WORDS], z: uint256, y: uint256, opening: Bytes[48]):
    """
    @dev Combine commitments and check the combination's value. The precompile refuses what is not a point of
         the group, and reverts when the value is another.
    """
    combined: Bytes[128] = raw_call(COMBINE, multiples, max_outsize=128, is_static_call=True)
    x_high: uint256 = convert(slice(combined, 0, 32), uint256)
    y_high: uint256 = convert(slice(combined, 64, 32), uint256)
    y_low: uint256 = convert(slice(combined, 96, 32), uint256)
    x_high = x_high | (1 << 127)
    if y_high > HALF_HIGH or (y_high == HALF_HIGH and y_low > HALF_LOW):
        x_high = x_high | (1 << 125)
    point: Bytes[48] = concat(convert(convert(x_high, uint128), bytes16), slice(combined, 32, 32))
    versioned: uint256 = (convert(sha256(point), uint256) & (max_value(uint256) >> 8)) | (1 << 248)
    done: bool = False
    answer: Bytes[64] = b""
    done, answer = raw_call(
        EVALUATE,
        concat(convert(versioned, bytes32), convert(z, bytes32), convert(y, bytes32), point, opening),
        max_outsize=64,
        is_static_call=True,
        revert_on_failure=False,
    )
    assert done and len(answer) == 64, "the proof does not hold"
