"""What newcomers do wrong with data: refusals say what was passed and what to do, and none is silent."""

import io
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from twopm_kit import chain as chains
from twopm_kit.errors import TwoPMError
from twopm_kit.federated import CategoryUnion, drift_report, fit_standard
from twopm_kit.vsies import (
    Attestation,
    ColumnProofs,
    CommittedColumn,
    DataIndex,
    EntryTree,
    Field,
    ProofContext,
    PublicFacts,
    RangeProof,
    RowCommitment,
    RowLayout,
    Schema,
    SpotCheck,
    Standard,
    Statistics,
    Store,
    commit_field,
    content_id,
    detects,
    drift,
    identity_hash,
    in_steps,
    open_source,
    prove_range,
    prove_total,
    read,
    rows_needed,
    storage_root,
)

AGE = Field("age", "int", low=0, high=120)
PEOPLE = Schema(
    "people",
    [
        AGE,
        Field("bmi", "float", low=5, high=80, resolution=0.1, nullable=True, standard="zscore"),
        Field("smoker", "bool"),
        Field("town", "category", categories=("Bonn", "Ulm")),
    ],
)
FRAME = pd.DataFrame(
    {
        "age": [20, 30, 40],
        "bmi": [20.0, np.nan, 30.5],
        "smoker": [True, False, True],
        "town": ["Bonn", "Ulm", "Ulm"],
    }
)
VALID = PEOPLE.validate(FRAME)
STANDARD = Standard.fit(PEOPLE, FRAME)
ROWS = RowCommitment(PEOPLE, VALID, bytes(range(32)))
STORE = Store()
STORED = STORE.put(b"hello world")


def refused(work, *words):
    """Run what must be refused by name, with a hint, and without a warning of somebody else's library."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(TwoPMError) as caught:
            work()
    assert caught.value.hint, caught.value
    for word in words:
        assert word in str(caught.value), caught.value


SCHEMAS = {
    "a kind of another library": (lambda: Field("a", "integer"), "did you mean 'int'"),
    "a type as kind": (lambda: Field("a", str), "did you mean 'category'"),
    "a standard with a hyphen": (lambda: Field("a", "float", standard="z-score"), "did you mean 'zscore'"),
    "a bound beyond float64": (lambda: Field("a", "float", low=10**400), "a finite number"),
    "a set of categories": (lambda: Field("t", "category", categories={"a", "b"}), "in the order"),
    "numbers as categories": (lambda: Field("t", "category", categories=[1, 2]), "a int (1)"),
    "one field": (lambda: Schema("s", AGE), "fields is a Field", "[Field("),
    "no fields": (lambda: Schema("s", None), "fields is a NoneType"),
    "pairs for fields": (lambda: Schema("s", [AGE, ("b", "int")]), "field 2 of 2 is a tuple"),
    "a mapping for fields": (lambda: Schema("s", {"a": "int"}), "field 1 of 1 is a str"),
    "fields first": (lambda: Schema([AGE], "s"), "called a list", "Schema("),
    "a rule about a typo": (lambda: Schema("s", [AGE], rules=["aeg > 3"]), "'aeg'", "did you mean 'age'"),
    "a column that is not there": (lambda: PEOPLE["Age"], "no column 'Age'", "did you mean 'age'"),
    "columns of a schema": (lambda: PEOPLE[["age", "bmi"]], "no column"),
    "a change that is not there": (lambda: PEOPLE.with_field("age", hihg=3), "did you mean 'high'"),
    "a list of rules": (lambda: PEOPLE.with_rules(["age > 3"]), "a list was passed", "*rules"),
    "a draft of a path": (lambda: Schema.infer("people.csv"), "a str was passed", "kit.vsies.read"),
    "a draft of no columns": (lambda: Schema.infer(FRAME[[]]), "without columns"),
    "a draft of infinities": (lambda: Schema.infer(pd.DataFrame({"a": [np.inf]})), "infinities", "replace"),
    "a draft of dates": (
        lambda: Schema.infer(pd.DataFrame({"d": pd.date_range("2020", periods=2)})),
        "datetime64",
        ".dt.days",
    ),
    "a draft of numbered columns": (
        lambda: Schema.infer(pd.DataFrame(np.eye(2))),
        "called 0",
        '"x{}".format',
    ),
    "a draft of spaced names": (lambda: Schema.infer(pd.DataFrame({" a": [1]})), "columns=str.strip"),
    "a column by another name": (
        lambda: PEOPLE.validate(FRAME.rename(columns={"age": "Age"})),
        "'Age' is not in the schema",
        "{'Age': 'age'}",
    ),
    "a column too few": (
        lambda: PEOPLE.validate(FRAME[["age", "bmi", "town"]]),
        "'smoker' is missing",
        "add",
    ),
    "a column too many": (
        lambda: PEOPLE.validate(FRAME.assign(x=1)),
        "'x' is not in the schema",
        "leave out",
    ),
    "one wrong row": (
        lambda: PEOPLE.validate(FRAME.assign(age=[1, 2, 999])),
        "this table of 3 rows",
        "1 time",
    ),
    "a first row before the first": (lambda: PEOPLE.validate(FRAME, first_row=-1), "first_row is '-1'"),
    "a first row as text": (lambda: PEOPLE.report(FRAME, first_row="0"), "first_row is '0'"),
    "a report as a truth": (lambda: bool(PEOPLE.report(FRAME.assign(age=-1))), "report.ok"),
    "a frame to fit first": (lambda: Standard.fit(FRAME, PEOPLE), "a DataFrame was passed", "schema first"),
    "figures of a typo": (
        lambda: Standard.of(PEOPLE, {"Age": Statistics(3)}),
        "names 'Age'",
        "did you mean 'age'",
    ),
    "drift from a fit": (lambda: drift(SimpleNamespace(standard=STANDARD), FRAME), "fit.standard"),
}

SOURCES = {
    "several lines": (lambda: read("a,b\n1,2\n"), "several lines", "StringIO"),
    "a column": (lambda: read(FRAME["age"]), "Series is no source", "to_frame"),
    "a mapping": (lambda: read({"a": [1]}), "dict is no source", "pandas.DataFrame"),
    "several paths": (lambda: read(["a.csv", "b.csv"]), "list is no source", "concat"),
    "an open file": (lambda: read(io.BytesIO(b"a\n1\n")), "BytesIO is no source", "the path"),
    "a path in bytes": (lambda: read(b"a.csv"), "bytes is no source", "as text"),
    "rows as text": (lambda: open_source(FRAME, rows="10"), "rows must be"),
    "names in one text": (lambda: read(np.eye(2), columns="ab"), "a str", "list of names"),
}

FILES = {
    "a file of a similar name": (lambda: read("peopel.csv"), "there is no", "did you mean 'people.csv'"),
    "a folder that is not there": (lambda: read("nowhere/people.csv"), "there is no folder"),
    "pandas' name of an option": (lambda: read("people.csv", sep=";"), "sep= is called delimiter="),
    "a mistyped option": (lambda: read("people.csv", delimitr=";"), "did you mean 'delimiter'"),
    "some columns": (lambda: read("people.csv", usecols=["age"]), "afterwards"),
    "the number of the header": (lambda: read("people.csv", header=0), "header must be", "not 0"),
    "one dtype for all": (lambda: read("people.csv", dtypes="float64"), "dtypes is a str"),
    "options in a text": (lambda: read("people.csv", storage_options="key"), "storage_options is a str"),
    "names in one text": (lambda: read("people.csv", columns="abcd"), "a str", "list of names"),
    "an archive": (lambda: read("people.zip"), "no ending that tells its format", "zip://"),
}

STORES = {
    "a text": (lambda: STORE.put("people.csv"), "a str was passed", 'Path("file")'),
    "nothing": (lambda: STORE.put(None), "NoneType"),
    "an array": (lambda: STORE.put(np.ones(3)), "ndarray"),
    "a frame": (lambda: STORE.put(FRAME), "DataFrame"),
    "the root of a text": (lambda: storage_root("people.csv"), "a str was passed"),
    "the CID of a text": (lambda: content_id("people.csv"), "a str was passed"),
    "the CID of an array": (lambda: content_id(np.ones(3)), "ndarray"),
    "the tree of an object": (lambda: EntryTree(STORED), "StoredObject"),
    "a CID for a root": (lambda: STORE.get(STORED.cid), "64 hexadecimal digits", "a CID is none"),
    "a root in bytes": (lambda: STORE.get(bytes(32)), "a bytes", "root.hex()"),
    "a start as text": (lambda: STORE.get(STORED, "0"), "start is a str"),
    "half a byte": (lambda: STORE.get(STORED, 0, 1.5), "length is a float"),
    "no path": (lambda: STORE.fetch(STORED, None), "NoneType", "path of a file"),
    "a CAR in bytes": (lambda: STORE.import_car(b"car"), "a bytes was passed"),
    "a slice as text": (lambda: STORE.prove(STORED, "0"), "slice_index is a str"),
    "a proof against an object": (
        lambda: STORE.prove(STORED, 0).verify(STORED),
        "StoredObject",
        "stored.root",
    ),
    "a segment of nonsense": (lambda: STORE.prove(STORED, 0).segment("root"), "64 hexadecimal digits"),
    "no place": (lambda: Store(""), "no text", "memory://"),
    "a number for a place": (lambda: Store(5), "a int was passed"),
}

PROOFS = {
    "a name for a field": (lambda: in_steps("age", [20]), "field is a str", 'schema["age"]'),
    "values first": (lambda: commit_field([20], AGE), "field is a list"),
    "no values": (lambda: commit_field(AGE, []), "no rows"),
    "nothing": (lambda: in_steps(AGE, None), "NoneType", "frame['age']"),
    "a frame": (lambda: in_steps(AGE, FRAME), "DataFrame", "frame['age']"),
    "rows of rows": (lambda: in_steps(AGE, [[1, 2]]), "one a row"),
    "text": (lambda: in_steps(AGE, ["20"]), "row 0", "kind 'int'"),
    "half a year": (lambda: in_steps(AGE, [20, 20.5]), "row 1", "kind 'int'"),
    "missing": (lambda: in_steps(AGE, pd.array([20, None], dtype="Int64")), "no value in row 1"),
    "missing, uncounted": (lambda: CommittedColumn.commit([1.0, np.nan], 0, 5), "some missing", "leave rows"),
    "a range of text": (lambda: CommittedColumn.commit([1], "0", "5"), "the range is '0'"),
    "a field for bits": (lambda: prove_range([20], AGE), "bits is", "commit_field"),
    "a sum of a list": (lambda: prove_total([1, 2], 0, 5), "a list was passed", "CommittedColumn.commit"),
    "a field for a column": (lambda: ProofContext(1, "0x" + "0" * 40, 1, "0x" + "0" * 40, AGE), "field.name"),
    "a proof of text": (lambda: RangeProof.from_bytes("proof", ProofContext.nowhere()), "a str was passed"),
    "percent": (lambda: detects(10, 64), "a share of 10", "such as 0.1"),
    "a share of text": (lambda: detects("0.1", 64), "a share of 0.1"),
    "shares": (lambda: detects(np.array([0.1, 0.2]), 64), "a share of"),
    "rows without end": (lambda: detects(0.1, 10**400), "rows="),
    "no confidence": (lambda: rows_needed(0.1, None), "a confidence of None"),
    "certainty": (lambda: rows_needed(0.1, 1.0), "between 0 and 1"),
    "a share of no table": (lambda: rows_needed(1e-300, 0.95), "2**-32"),
    "a table first": (lambda: RowCommitment(VALID, PEOPLE, bytes(32)), "a DataFrame was passed as schema"),
    "no table": (lambda: RowCommitment(PEOPLE, None, bytes(32)), "NoneType"),
    "an array of rows": (lambda: RowCommitment(PEOPLE, VALID.to_numpy(), bytes(32)), "ndarray"),
    "tables by name": (lambda: RowCommitment(PEOPLE, {"a": VALID}, bytes(32)), "dict"),
    "a schema for a layout": (
        lambda: ROWS.open(0).verify(PEOPLE, ROWS.root, 3),
        "a Schema",
        "RowLayout(schema)",
    ),
    "a root of digits": (lambda: ROWS.open(0).verify(ROWS.layout, ROWS.root.hex(), 3), "bytes.fromhex"),
    "a row too short": (lambda: RowLayout(PEOPLE).values([1]), "4 whole numbers"),
    "a salt as text": (lambda: identity_hash(bytes(32), "00" * 32), "salt is a str", "fromhex"),
    "facts of a schema": (lambda: PublicFacts(3, PEOPLE), "schema is a Schema", "schema.hash"),
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas_and_frames(name):
    work, *words = SCHEMAS[name]
    refused(work, *words)


@pytest.mark.parametrize("name", SOURCES)
def test_what_is_no_source(name):
    work, *words = SOURCES[name]
    refused(work, *words)


@pytest.mark.parametrize("name", FILES)
def test_files(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    FRAME.to_csv("people.csv", index=False)
    Path("people.zip").write_bytes(b"PK")
    work, *words = FILES[name]
    refused(work, *words)


@pytest.mark.parametrize("name", STORES)
def test_storage(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    work, *words = STORES[name]
    refused(work, *words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", PROOFS)
def test_proofs_and_rows(name):
    work, *words = PROOFS[name]
    refused(work, *words)


# On chain -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place():
    with chains.connect("embedded") as chain:
        lab, clinic = chain.account("lab"), chain.account("clinic")
        index = DataIndex.deploy(chain, sender=lab)
        index.register(PEOPLE, sender=lab)
        stored = {"root": STORED.root, "cid": STORED.cid, "size": STORED.size, "rows": 3, "schema": PEOPLE}
        upload = index.upload(1, **stored, key_fingerprint="ab" * 16, sender=clinic)
        subject, spot = index.subject(upload), SpotCheck.deploy(chain, lab)
        facts = PublicFacts(3, PEOPLE.hash, ("every row fits",))
        who = {"allocator": chain.account("a"), "validator": chain.account("v")}
        attested = Attestation.issue(subject, **who, u_hash=bytes(32), facts=facts)
        check = spot.commit(1, ROWS, 2, sender=clinic)
        proofs = ColumnProofs(chain, index.contract)  # asked for nothing that a contract answers
        yield SimpleNamespace(**locals())


ON_CHAIN = {
    "a schema as text": (lambda at: at.index.register("people", sender=at.lab), "a str was passed as schema"),
    "a dataset by name": (lambda at: at.index.dataset("people"), "no dataset 'people'", "index.datasets()"),
    "datasets by name": (lambda at: at.index.datasets("people"), "a str was passed", "schema.hash"),
    "a search by text": (lambda at: at.index.find(min_rows="3"), "min_rows is '3'"),
    "a search by a word": (lambda at: at.index.find(attested="yes"), "attested is 'yes'"),
    "a search by a Field": (lambda at: at.index.find(field=AGE), "field is a Field"),
    "a table of numbers": (lambda at: at.index.table([1]), "a int was passed", "index.find"),
    "a role with a capital": (
        lambda at: at.index.grant(1, at.lab, "Validator", sender=at.lab),
        "did you mean",
    ),
    "role and account": (lambda at: at.index.has_role(1, "validator", at.lab), "is no role"),
    "roles of a name": (lambda at: at.index.validators("people"), "dataset_id is 'people'"),
    "a root without 0x": (lambda at: at.index.upload_of(1, STORED.root[2:]), "0x and 64 hexadecimal digits"),
    "reasons by number": (lambda at: at.index.deprecate(1, sender=at.clinic, reason=5), "reason is a int"),
    "an attestation as text": (lambda at: at.index.attest(1, "{}", sender=at.lab), "attestation is a str"),
    "an allocator by name": (lambda at: at.index.allocator("lab"), "account is a str", "chain.account"),
    "a task about a schema": (
        lambda at: at.index.allocator(at.lab).assign(at.clinic.address, PEOPLE),
        "a Schema",
        "schema.hash",
    ),
    "trust in a text": (
        lambda at: at.attested.verify(at.subject, allocators=at.lab.address, validators=[at.lab]),
        "allocators is a str",
        "index.allocators",
    ),
    "trust in nobody": (
        lambda at: at.attested.verify(at.subject, allocators=[at.lab], validators=None),
        "validators is a NoneType",
    ),
    "a number for a subject": (
        lambda at: at.attested.verify(1, allocators=[at.lab], validators=[at.lab]),
        "subject is a int",
        "index.subject",
    ),
    "a frame to commit to": (
        lambda at: at.spot.commit(1, VALID, sender=at.clinic),
        "a DataFrame",
        "RowCommitment",
    ),
    "no draws": (lambda at: at.spot.commit(1, ROWS, 0, sender=at.clinic), "out of range", "1 to 1024"),
    "a check for its number": (lambda at: at.spot.open(at.check, ROWS, sender=at.clinic), "check.check_id"),
    "rows too early": (lambda at: at.spot.open(1, ROWS, sender=at.clinic), "not there yet", "chain.mine"),
    "a contributor by name": (
        lambda at: at.spot.demand(1, PEOPLE, contributor="clinic", subject=1, n_rows=3),
        "contributor must be an address",
    ),
    "a root in digits": (
        lambda at: at.spot.demand(
            1, PEOPLE, contributor=at.clinic, subject=1, n_rows=3, root=ROWS.root.hex()
        ),
        "root is a str",
        "bytes.fromhex",
    ),
    "no proof": (lambda at: at.proofs.verify(None, sender=at.clinic), "NoneType", "prove_range"),
    "a column by its name": (
        lambda at: at.proofs.prove_column(1, "age", [20], sender=at.clinic),
        "field is a str",
    ),
    "no prover": (lambda at: at.proofs.context(1, None, "age"), "prover is None", "account.address"),
}


@pytest.mark.parametrize("name", ON_CHAIN)
def test_index_checks_and_attestations(name, place):
    work, *words = ON_CHAIN[name]
    refused(lambda: work(place), *words)


NODES = SimpleNamespace(run=None)
FEDERATED = {
    "a schema first": (lambda: fit_standard(PEOPLE, NODES), "schema is a SimpleNamespace"),
    "a mistyped option": (lambda: fit_standard(NODES, PEOPLE, min_cout=3), "did you mean 'min_count'"),
    "a fit for a standard": (lambda: drift_report(NODES, PEOPLE, NODES), "fit.standard"),
    "a frame for a network": (lambda: drift_report(FRAME.drop, PEOPLE, STANDARD), "pass a LocalNetwork"),
    "a schema for columns": (lambda: CategoryUnion("towns", PEOPLE), "names a Field"),
}


@pytest.mark.parametrize("name", FEDERATED)
def test_tasks(name):
    work, *words = FEDERATED[name]
    refused(work, *words)


# What works in every form that is natural ------------------------------------------------------------------


def test_numbers_of_numpy_count_as_numbers(place):
    one = np.int64(1)
    assert place.index.dataset(one) == place.index.dataset(1)
    assert type(place.index.dataset(one).dataset_id) is int
    assert place.index.subject(one) == place.subject
    assert place.spot.check(one) == place.check
    assert detects(np.float64(0.1), np.int64(64)) == detects(0.1, 64)
    assert Statistics(np.int64(3)).count == 3
    assert open_source(FRAME, rows=np.int64(2)).rows == 2
    assert ProofContext(one, "0x" + "0" * 40, one, "0x" + "0" * 40) == ProofContext(
        1, "0x" + "0" * 40, 1, "0x" + "0" * 40
    )
    assert Field("a", "int", low=one, nullable=np.True_) == Field("a", "int", low=1, nullable=True)
    assert STORE.get(STORED, one, np.int32(2)) == b"el"


def test_whoever_is_trusted_may_be_an_account_or_an_address_in_any_case(place):
    allocator, validator = place.who["allocator"], place.who["validator"]
    for form in (lambda one: one, lambda one: one.address, lambda one: one.address.lower()):
        trusted = {"allocators": [form(allocator)], "validators": [form(validator)]}
        assert place.attested.verify(place.subject, **trusted) == allocator.address
    for nobody in ([], [place.lab]):
        refused(
            lambda one=nobody: place.attested.verify(place.subject, allocators=one, validators=[validator])
        )


def test_categories_may_be_what_unique_gives():
    for unique in (FRAME["town"].unique(), np.array(["Bonn", "Ulm"]), pd.Series(["Bonn", "Ulm"])):
        assert Field("town", "category", categories=unique).categories == ("Bonn", "Ulm")


def test_frames_of_arrow_are_read_as_others():
    arrow = FRAME.convert_dtypes(dtype_backend="pyarrow")
    pd.testing.assert_frame_equal(PEOPLE.validate(arrow), VALID)
    assert Schema.infer(arrow)["smoker"].kind == "bool"


def test_a_folder_may_be_a_path_and_begin_at_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for form in (tmp_path / "home" / "store", "~/store", "file://~/store", "home/store", Path("~/store")):
        assert Store(form).url == f"file://{tmp_path}/home/store"
    assert STORE.export_car(STORED, "object.car") == Path("object.car")
    assert STORE.import_car("object.car") == STORED


@pytest.mark.parametrize("attempts", [1, 3, 10**6])
def test_the_rows_that_are_needed_are_the_fewest(attempts):
    for share, confidence in (
        (0.1, 0.95),
        (0.5, 0.1),
        (0.01, 1 - 1e-15),
        (2.0**-32, 1 - 2.0**-53),
        (1.0, 0.5),
    ):
        rows = rows_needed(share, confidence, attempts)
        assert detects(share, rows, attempts) >= confidence
        assert rows == 1 or detects(share, rows - 1, attempts) < confidence
