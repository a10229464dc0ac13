"""The data client on real parts: what it takes, what it gives back, what it refuses, and what it leaves."""

import os
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from twopm_kit import chain as chains
from twopm_kit.errors import (
    AccountError,
    CiphertextError,
    FHEError,
    IndexRefused,
    SchemaError,
    SourceError,
    StoreError,
    UnknownContract,
    WrongKey,
)
from twopm_kit.fhe import KeyHolder
from twopm_kit.vsies.client import DataClient
from twopm_kit.vsies.index import DataIndex
from twopm_kit.vsies.prepared import Prepared
from twopm_kit.vsies.reference import DatasetRef
from twopm_kit.vsies.schema import Field, Schema
from twopm_kit.vsies.standard import Standard
from twopm_kit.vsies.storage import Store, content_id, storage_root
from twopm_kit.vsies.workplace import Workplace

ROWS = 200
PATIENTS = Schema(
    "patients",
    [
        Field("age", "int", low=0, high=120, standard="minmax"),
        Field("bmi", "float", low=5, high=80, standard="minmax", nullable=True, resolution=0.1),
        Field("smoker", "bool"),
        Field("town", "category", categories=("Bonn", "Köln", "Ulm")),
    ],
    rules=["age >= 18 or not smoker"],
)
POINTS = Schema("points", [Field(name, "float", low=-4, high=4, standard="none") for name in ("x0", "x1")])
FITTED = Schema(
    "fitted",
    [
        Field("dose", "float", low=0, high=50, standard="zscore"),
        Field("visits", "int", low=0, high=40, standard="robust"),
        Field("cost", "float", low=0, high=9000, standard="log", nullable=True),
        Field("calm", "bool", nullable=True),
        Field("ward", "category", nullable=True),
    ],
)


def patients(rows=ROWS, seed=1):
    rng = np.random.default_rng(seed)
    bmi = rng.normal(25, 4, rows).round(1).clip(10, 60)
    bmi[::7] = np.nan
    return pd.DataFrame(
        {
            "age": rng.integers(18, 90, rows),
            "bmi": bmi,
            "smoker": rng.integers(0, 2, rows).astype(bool),
            "town": rng.choice(["Bonn", "Köln", "Ulm"], rows),
        }
    )


def fitted_rows(rows=60):
    rng = np.random.default_rng(2)
    frame = pd.DataFrame(
        {
            "dose": rng.uniform(0, 50, rows),
            "visits": rng.integers(0, 40, rows),
            "cost": rng.uniform(0, 9000, rows),
            "calm": pd.array(rng.integers(0, 2, rows).astype(bool), dtype="boolean"),
            "ward": rng.choice(["east", "west"], rows),
        }
    )
    frame.loc[3, "cost"], frame.loc[4, "calm"], frame.loc[5, "ward"] = np.nan, pd.NA, None
    return frame


@pytest.fixture(scope="module")
def holder():
    return KeyHolder.generate("linear")


@pytest.fixture(scope="module")
def network():
    with chains.connect("embedded") as chain:
        for name in ("clinic", "lab", "mallory"):
            chain.account(name)
        yield chain, DataIndex.deploy(chain, chain.account("lab"))


@pytest.fixture
def chain(network):
    with network[0].snapshot():
        yield network[0]


@pytest.fixture
def index(network, chain):
    return DataIndex.at(chain, network[1].address)


@pytest.fixture
def client_of(chain, index, tmp_path):
    def make(who="clinic", store=None, **options):
        options = {"index": index, "storage": store or f"file://{tmp_path}/store", **options}
        folder = options.pop("workdir", tmp_path / f"work of {who}")
        return DataClient(chain=chain, account=chain.account(who), workdir=folder, **options)

    return make


@pytest.fixture
def clinic(client_of):
    return client_of("clinic")


@pytest.fixture
def lab(client_of):
    return client_of("lab")


@pytest.fixture
def give(clinic, holder):
    def contribute(data, schema=PATIENTS, client=clinic, **options):
        return client.contribute(data, schema, **{"keys": holder, "progress": False, **options})

    return contribute


def files(folder):
    """Name, time and content of every file below a folder."""
    found = (path for path in Path(folder).rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(found)
    }


def same(found, expected):
    """Assert that what was decrypted is what was standardised."""
    assert list(found) == list(expected)
    for name in expected:
        if isinstance(expected[name].dtype, pd.CategoricalDtype) or expected[name].dtype.kind == "b":
            assert found[name].astype(object).isna().equals(expected[name].astype(object).isna()), name
            known = expected[name].notna()
            texts = (column[known].astype(str).tolist() for column in (found[name], expected[name]))
            assert next(texts) == next(texts), name
        else:
            np.testing.assert_allclose(
                found[name].to_numpy(np.float64), expected[name].to_numpy(np.float64), atol=1e-4
            )


# What it takes, and what comes back -----------------------------------------------------------------------


@pytest.mark.parametrize("form", ["csv", "csv.gz", "parquet", "frame"])
def test_whatever_form_the_rows_have_the_same_values_come_back(form, give, lab, holder, tmp_path):
    frame, path = patients(), tmp_path / f"rows.{form}"
    if form == "parquet":
        frame.to_parquet(path)
    elif form != "frame":
        frame.to_csv(path, index=False)
    ref = give(frame if form == "frame" else path)
    assert ref.rows == ROWS
    expected = Standard.declared(PATIENTS).apply(PATIENTS.validate(frame))
    same(holder.decrypt(lab.fetch(ref, key=holder, progress=False)), expected)


def test_arrays_and_options_of_the_source(give, clinic, holder, tmp_path):
    values = np.random.default_rng(3).uniform(-4, 4, (40, 2))
    opened = holder.decrypt(clinic.fetch(give(values, POINTS), progress=False))
    np.testing.assert_allclose(opened.to_numpy(), values, atol=1e-4)
    path = tmp_path / "points.txt"
    path.write_text("\n".join(f"{a!r};{b!r}" for a, b in values.tolist()))
    named = give(path, POINTS, delimiter=";", header=False)
    turned = give(path, POINTS, delimiter=";", header=False, columns=["x1", "x0"])
    assert named.root != turned.root  # the same bytes, read in another way, are other rows
    opened = holder.decrypt(clinic.fetch(turned, progress=False))
    np.testing.assert_allclose(opened[["x1", "x0"]].to_numpy(), values, atol=1e-4)


def test_a_fitted_standard_with_gaps_in_every_kind(give, clinic, holder):
    frame = fitted_rows()
    standard = Standard.fit(FITTED, frame)
    ref = give(frame, FITTED, standard=standard)
    same(
        holder.decrypt(clinic.fetch(ref, progress=False)),
        standard.apply(FITTED.validate(frame)),
    )
    assert clinic.index.entry(ref.upload_id).standard_hash == standard.hash


def test_an_evaluator_contributes_for_the_holder(give, clinic, holder):
    mine, theirs = give(patients()), give(patients(), keys=holder.evaluator())
    assert theirs.size > 1.9 * mine.size
    assert clinic.index.entry(theirs.upload_id).key_fingerprint == holder.fingerprint
    expected = Standard.declared(PATIENTS).apply(PATIENTS.validate(patients()))
    same(holder.decrypt(clinic.fetch(theirs, progress=False)), expected)


def test_complex_packing_takes_half_the_bytes(give, clinic, holder):
    values = np.random.default_rng(4).uniform(-4, 4, (holder.engine.slots + 2, 2))
    real, packed = give(values, POINTS), give(values, POINTS, packing="complex")
    assert packed.size < 0.6 * real.size
    opened = holder.decrypt(clinic.fetch(packed, progress=False))
    np.testing.assert_allclose(opened.to_numpy(), values, atol=1e-4)


def test_what_is_listed_is_what_is_stored(give, clinic, index, tmp_path):
    ref = give(patients())
    entry = index.entry(ref.upload_id)
    content = clinic.store.get(ref.root)
    assert (storage_root(content), content_id(content), len(content)) == (ref.root, ref.cid, ref.size)
    assert (entry.root, entry.cid, entry.size, entry.rows) == (ref.root, ref.cid, ref.size, ROWS)
    assert entry.schema_hash == PATIENTS.hash
    assert entry.standard_hash == Standard.declared(PATIENTS).hash
    assert entry.contributor == ref.contributor == clinic.account.address
    assert clinic.download(ref, tmp_path / "copy.ct", progress=False).read_bytes() == content


def test_others_fetch_by_reference_text_number_and_search(give, client_of, chain, index):
    shared = f"memory://{os.urandom(8).hex()}"
    clinic, lab = client_of("clinic", shared), client_of("lab", shared)
    ref = give(patients(), client=clinic)
    assert lab.find(PATIENTS, min_rows=ROWS) == [ref]
    assert lab.find(PATIENTS, min_rows=ROWS + 1) == []
    content = clinic.store.get(ref.root)
    for way in (ref, DatasetRef.from_json(ref.to_json()), ref.upload_id, lab.find(field="bmi")[0]):
        assert lab.fetch(way, progress=False).to_bytes() == content
    newcomer = client_of("mallory", shared, index=None)
    assert newcomer.fetch(ref, progress=False).to_bytes() == content
    for search in (newcomer.find, lambda: newcomer.fetch(ref.upload_id)):
        with pytest.raises(IndexRefused, match="knows no index"):
            search()


# Again, and newer versions --------------------------------------------------------------------------------


def test_the_same_call_again_does_nothing(give, chain, clinic, client_of, tmp_path):
    path = tmp_path / "rows.csv"
    patients().to_csv(path, index=False)
    ref = give(path)
    before = chain.block_number, files(tmp_path)
    assert give(path) == ref
    assert give(path, client=client_of("clinic")) == ref  # another process would have this much
    assert (chain.block_number, files(tmp_path)) == before


def test_stages_are_told_and_may_be_the_last(give, chain, index):
    seen = []

    def stop(stage):
        seen.append(stage)
        if stage == "stored":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        give(patients(), observe=stop)
    assert seen == ["checked", "encrypted", "stored"]
    assert index.find() == []
    ref = give(patients(), observe=seen.append)
    assert seen[3:] == ["stored", "listed"]  # what was encrypted is not encrypted again
    block = chain.block_number
    assert give(patients(), observe=seen.append) == ref
    assert (seen[5:], chain.block_number) == ([], block)


def test_other_rows_keys_standards_accounts_are_other_contributions(give, client_of, holder):
    refs = [
        give(patients()),
        give(patients(seed=2)),
        give(patients(), packing="complex"),
        give(patients(), keys=KeyHolder.generate("linear")),
        give(patients(), client=client_of("lab")),
    ]
    assert len({ref.root for ref in refs}) == len({ref.upload_id for ref in refs}) == len(refs)
    assert len({ref.dataset_id for ref in refs}) == 1


def test_newer_versions_and_the_same_call_again(give, clinic, index):
    first = give(patients())
    second = give(patients(seed=2), previous=first.upload_id)
    assert index.entry(second.upload_id).version == 2
    assert clinic.find(PATIENTS) == [second]
    assert give(patients(seed=2), previous=first.upload_id) == second
    assert give(patients()) == first
    with pytest.raises(IndexRefused, match="newer version already"):
        give(patients(seed=3), previous=first.upload_id)


def test_a_newer_version_that_was_cut_off_after_it_was_listed(give, clinic, monkeypatch):
    first = give(patients())

    def full(*_):
        raise StoreError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(Workplace, "write", full)
        with pytest.raises(StoreError, match="no room"):
            give(patients(seed=2), previous=first.upload_id)
    (listed,) = clinic.find(PATIENTS)
    assert give(patients(seed=2), previous=first.upload_id) == listed != first


def test_a_newer_version_goes_where_the_older_is(give, clinic, index, chain):
    clinic.register(PATIENTS)
    own = index.register(PATIENTS, sender=clinic.account)
    first = give(patients(), dataset_id=own)
    assert give(patients(seed=2), previous=first.upload_id).dataset_id == own
    index.close(own, sender=clinic.account)
    before = chain.block_number
    with pytest.raises(IndexRefused, match="it is closed"):
        give(patients(seed=3), previous=first.upload_id)
    assert chain.block_number == before


def test_what_was_withdrawn_comes_back_only_on_demand(give, clinic, index):
    first = give(patients())
    index.deprecate(first.upload_id, sender=clinic.account)
    with pytest.raises(IndexRefused, match="withdrawn") as caught:
        give(patients())
    assert f"previous={first.upload_id}" in caught.value.hint
    again = give(patients(), previous=first.upload_id)
    assert again.root != first.root
    assert clinic.find(PATIENTS) == [again]


def test_what_storage_lost_becomes_the_next_version(give, client_of, chain, index, tmp_path):
    first = give(patients())
    elsewhere = client_of("clinic", f"file://{tmp_path}/new")
    second = give(patients(), client=elsewhere)
    assert index.entry(second.upload_id).previous == first.upload_id
    before = chain.block_number
    assert give(patients(), client=elsewhere) == second
    assert chain.block_number == before


def test_without_an_index_one_is_deployed_and_kept(chain, client_of, give, holder):
    alone = client_of("clinic", index=None)
    with pytest.raises(SchemaError):
        give(patients().assign(age=200), client=alone)
    for further in ({"dataset_id": 1}, {"previous": 1}):
        with pytest.raises(IndexRefused, match="knows no index"):
            give(patients(), client=alone, **further)
    assert alone._known_index() is None
    ref = give(patients(), client=alone)
    again = client_of("clinic", index=None)
    assert again.index.address == ref.index
    assert give(patients(), client=again) == ref
    assert again.find() == [ref]


def test_a_chain_that_was_started_anew_is_no_dead_end(client_of, give, chain, tmp_path):
    client = client_of("clinic", index=None)
    with chain.snapshot():
        first = give(patients(), client=client)
    anew = client_of("clinic", index=None)
    second = give(patients(), client=anew)
    assert second.root != first.root
    assert anew.fetch(second, progress=False).n_rows == ROWS


def test_a_dataset_that_is_closed_is_passed_over_or_refused(give, clinic, index, chain):
    number = clinic.register(PATIENTS)
    assert clinic.register(PATIENTS) == number
    first = give(patients())
    index.close(number, sender=clinic.account)
    with pytest.raises(IndexRefused, match="closed"):
        give(patients(seed=2), dataset_id=number)
    assert give(patients()) == first
    assert give(patients(seed=2)).dataset_id == number + 1


# Failures leave nothing -----------------------------------------------------------------------------------


@pytest.fixture
def nothing_left(chain, clinic, give, tmp_path):
    """Compare everything with what was there before, which is not nothing: an earlier contribution."""
    give(patients(seed=9))
    work, store = tmp_path / "work of clinic", tmp_path / "store"
    before = chain.block_number, files(work), files(store)
    yield
    assert (chain.block_number, files(work), files(store)) == before


def test_rows_that_do_not_fit_are_told_from_the_whole_file(give, nothing_left, tmp_path):
    frame = patients(500).astype({"age": object})
    frame.loc[3, "age"], frame.loc[250, "town"], frame.loc[499, "bmi"] = 200, "Rome", 99.0
    frame.loc[498, ["age", "smoker"]] = [17, True]
    path = tmp_path / "bad.csv"
    frame.to_csv(path, index=False)
    with pytest.raises(SchemaError, match="nothing was encrypted") as caught:
        give(path, rows=100)
    failures = caught.value.failures
    assert sorted(failures["row"]) == [3, 250, 498, 499]
    assert failures.set_index("row").loc[499, "found"] == "99.0"
    assert "99" not in caught.value.message
    assert ".failures" in caught.value.hint


def test_a_missing_column_is_told_once(give, nothing_left):
    with pytest.raises(SchemaError) as caught:
        give(patients(500).drop(columns="bmi"), rows=100)
    assert caught.value.failures[["column", "rule"]].to_numpy().tolist() == [["bmi", "column is missing"]]


def test_a_category_that_only_the_last_rows_have(give, nothing_left, monkeypatch):
    monkeypatch.delattr(Prepared, "encrypt_to")  # it has to be found before anything is encrypted
    standard = Standard.fit(FITTED, fitted_rows())
    late = fitted_rows()
    late.loc[59, "ward"] = "north"
    with pytest.raises(SchemaError, match="not among"):
        give(late, FITTED, standard=standard, rows=20)


def wide_schema():
    return Schema("wide", [Field("x", "float", low=0, high=1e12)])


def test_arguments_that_cannot_be_right(give, nothing_left):
    unbounded, other = POINTS.with_field("x0", high=None), PATIENTS.with_field("age", low=1)
    cases = [
        (unbounded, {}, SchemaError, "x0 has no low and high"),
        (other, {"standard": Standard.declared(PATIENTS)}, SchemaError, "another"),
        (PATIENTS, {"standard": "minmax"}, SchemaError, "a str was passed as standard"),
        (FITTED, {}, SchemaError, "needs figures"),
        ("patients", {}, SchemaError, "a str was passed as schema"),
        (PATIENTS, {"keys": b"key"}, WrongKey, "a bytes was passed as keys"),
        (PATIENTS, {"packing": "tight"}, FHEError, "tight"),
        (PATIENTS, {"dataset_id": 77}, IndexRefused, "no dataset 77"),
        (PATIENTS, {"previous": 77}, IndexRefused, "no upload 77"),
        (PATIENTS, {"delimiter": ","}, SourceError, "delimiter"),
    ]
    for schema, options, error, words in cases:
        with pytest.raises(error, match=words) as caught:
            give(patients(), schema, **options)
        assert caught.value.hint


def test_bounds_beyond_the_key_are_refused_before_anything(give, nothing_left):
    with pytest.raises(SchemaError, match="takes bounds"):
        give(pd.DataFrame({"x": [1.0]}), wide_schema())


@pytest.mark.parametrize("what", ["nothing.csv", 17])
def test_no_source(what, give, nothing_left, tmp_path):
    with pytest.raises(SourceError):
        give(tmp_path / what if isinstance(what, str) else what)


def test_a_dataset_of_another_schema_is_refused_before_anything_is_stored(
    give, clinic, index, chain, tmp_path
):
    number = index.register(PATIENTS.with_field("age", low=1), sender=chain.account("lab"))
    before = chain.block_number
    with pytest.raises(IndexRefused, match="its schema is"):
        give(patients(), dataset_id=number)
    assert chain.block_number == before
    assert not (tmp_path / "store").exists()


def test_a_store_that_refuses_loses_nothing(give, client_of, chain, holder, tmp_path):
    wall = tmp_path / "wall"
    wall.write_text("a file where the store's folder would be")
    client = client_of("clinic", f"file://{wall}/store")
    before = chain.block_number
    with pytest.raises(StoreError, match="did not") as caught:
        give(patients(), client=client)
    assert caught.value.hint
    assert chain.block_number == before
    (draft,) = (tmp_path / "work of clinic").glob("*.ct")
    encrypted = draft.read_bytes()
    wall.unlink()
    ref = give(patients(), client=client)
    assert client.store.get(ref.root) == encrypted


def test_an_account_without_coins_loses_nothing(chain, index, give, tmp_path):
    poor = DataClient(
        chain=chain,
        account=chain.account("poor", fund=0),
        storage=f"file://{tmp_path}/store",
        index=index,
        workdir=tmp_path / "w",
    )
    index.register(PATIENTS, sender=chain.account("lab"))
    with pytest.raises(AccountError):
        give(patients(), client=poor)
    assert poor.find() == []
    chain.transfer(poor.account, 10**18, sender=chain.account("lab"))
    ref = give(patients(), client=poor)
    assert poor.find() == [ref]
    assert len(list((tmp_path / "store").iterdir())) == 1


# A hostile other side -------------------------------------------------------------------------------------


def test_a_reference_with_one_field_changed(give, lab, client_of):
    ref = give(patients())
    other = give(patients(seed=5), client=lab)
    free = client_of("lab", index=None)
    changes = [
        {"dataset_id": 2},
        {"upload_id": other.upload_id},
        {"upload_id": 77},
        {"rows": 1},
        {"size": 1},
        {"root": other.root},
        {"cid": other.cid},
        {"contributor": other.contributor},
        {"contributor": ref.contributor.lower()},
        {"chain_id": 5},
        {"index": lab.account.address},
    ]
    assert {name for change in changes for name in change} == set(DatasetRef.__annotations__)
    for change in changes:
        false = replace(ref, **change)
        for use in (lab.fetch, free.fetch, lambda ref: lab.download(ref, Path("never"))):
            with pytest.raises((IndexRefused, UnknownContract)) as caught:
                use(false)
            assert caught.value.hint


def test_references_to_another_chain_or_of_another_type(give, lab):
    ref = give(patients())
    with chains.connect("embedded") as other:
        stranger = DataClient(chain=other, account=other.account("x"), workdir=lab._place.folder)
        with pytest.raises((IndexRefused, UnknownContract)):
            stranger.fetch(replace(ref, chain_id=other.chain_id))
    for wrong in (None, True, -1, 0, 1.0, ref.to_json(), 2**70):
        with pytest.raises(IndexRefused):
            lab.fetch(wrong)


def test_a_reference_to_a_foreign_index_is_refused_by_a_client_that_was_given_one(
    give, lab, client_of, chain
):
    foreign = client_of("mallory", index=DataIndex.deploy(chain, chain.account("mallory")))
    ref = give(patients(), client=foreign)
    with pytest.raises(IndexRefused, match="made for another"):
        lab.fetch(ref)
    assert client_of("lab", index=None).fetch(ref, progress=False).n_rows == ROWS


def test_withdrawn_data_is_not_fetched(give, lab, clinic, index):
    ref = give(patients())
    index.deprecate(ref.upload_id, sender=clinic.account)
    assert lab.find() == []
    for way in (ref, ref.upload_id):
        with pytest.raises(IndexRefused, match="withdrawn"):
            lab.fetch(way)


@pytest.mark.parametrize("harm", ["corrupted", "missing", "truncated", "reordered", "manifest"])
def test_storage_that_gives_something_else(harm, give, lab, tmp_path):
    ref = give(patients())
    folder = tmp_path / "store" / ref.root
    slices = sorted(path for path in folder.iterdir() if path.suffix != ".json")
    assert len(slices) > 1
    first, second = (path.read_bytes() for path in slices[:2])
    if harm == "corrupted":
        slices[1].write_bytes(bytes([second[0] ^ 1]) + second[1:])
    elif harm == "missing":
        slices[1].unlink()
    elif harm == "truncated":
        slices[1].write_bytes(second[:-1])
    elif harm == "reordered":
        slices[0].write_bytes(second)
        slices[1].write_bytes(first)
    else:
        (folder / "manifest.json").write_bytes(b"{}")
    with pytest.raises(StoreError, match=harm if harm != "reordered" else "reordered|truncated"):
        lab.fetch(ref, progress=False)
    assert not [name for name in files(lab._place.folder) if name.endswith(".ct")]


@pytest.fixture
def lie(client_of, index, chain, holder):
    """List bytes as a contributor who says what he likes about them."""

    def upload(content, **says):
        mallory = client_of("mallory")
        number = mallory.register(PATIENTS)
        stored = mallory.store.put(content)
        facts = {"rows": ROWS, "key_fingerprint": holder.fingerprint, "schema": PATIENTS, **says}
        facts |= {"root": stored.root, "cid": stored.cid, "size": stored.size}
        return index.upload(number, **facts, sender=mallory.account)

    return upload


def test_containers_that_are_not_what_the_chain_says(lie, lab, holder):
    rows = Standard.declared(PATIENTS).apply(PATIENTS.validate(patients()))
    bounds = Standard.declared(PATIENTS).bounds
    enc = holder.encrypt(rows, bounds=bounds, missing=["bmi"])
    assert lab.fetch(lie(enc.to_bytes()), progress=False).n_rows == ROWS
    swapped = rows[["bmi", "age", "smoker", "town"]]
    as_text = rows.assign(smoker=rows["smoker"].astype(str).astype("category"))
    limits = {name: bounds[name] for name in ("age", "bmi")}
    lies = {
        "under key": (KeyHolder.generate("linear").encrypt(rows, bounds=bounds, missing=["bmi"]), {}),
        f"has {ROWS} rows, not 201": (enc, {"rows": 201}),
        "columns": (holder.encrypt(rows.drop(columns="age"), missing=["bmi"]), {}),
        "columns are": (holder.encrypt(rows.rename(columns={"age": "old"}), missing=["bmi"]), {}),
        "columns are not": (holder.encrypt(swapped, bounds=bounds, missing=["bmi"]), {}),
        "columns are not those": (holder.encrypt(as_text, bounds=limits, missing=["bmi"]), {}),
    }
    for words, (container, says) in lies.items():
        # another ciphertext each time: a root is listed once
        content = (
            container.to_bytes()
            if container is not enc
            else holder.encrypt(rows, bounds=bounds, missing=["bmi"]).to_bytes()
        )
        number = lie(content, **says)
        with pytest.raises(CiphertextError, match=words) as caught:
            lab.fetch(number, progress=False)
        assert caught.value.hint


def test_bytes_that_are_no_container(lie, lab, holder):
    with pytest.raises(CiphertextError, match="not a ciphertext container"):
        lab.fetch(lie(b"anything at all" * 50), progress=False)
    rows = Standard.declared(PATIENTS).apply(PATIENTS.validate(patients()))
    content = bytearray(holder.encrypt(rows, missing=["bmi"]).to_bytes())
    content[5000] ^= 1
    with pytest.raises(CiphertextError, match="changed"):
        lab.fetch(lie(bytes(content)), progress=False)


def test_a_key_that_is_not_the_one(give, lab):
    ref = give(patients())
    with pytest.raises(WrongKey):
        lab.fetch(ref, key=KeyHolder.generate("linear"), progress=False)


def test_who_lists_somebody_elses_ciphertexts_first_only_costs_a_second_call(
    give, clinic, client_of, index, holder, tmp_path
):
    real, mallory = clinic.store.put, client_of("mallory")
    seen = []

    class Watched(Store):
        """A store whose host lists what arrives before its owner does."""

        def put(self, data, *, progress=False):
            stored = real(data, progress=progress)
            if not seen:
                seen.append(stored)
                facts = {"rows": ROWS, "schema": PATIENTS, "key_fingerprint": holder.fingerprint}
                facts |= {"root": stored.root, "cid": stored.cid, "size": stored.size}
                index.upload(mallory.register(PATIENTS), **facts, sender=mallory.account)
            return stored

    watched = client_of("clinic", Watched(f"file://{tmp_path}/store"))
    with pytest.raises(IndexRefused, match="somebody else") as caught:
        give(patients(), client=watched)
    assert "contribute again" in caught.value.hint
    ref = give(patients(), client=watched)
    assert ref.root != seen[0].root
    assert ref.contributor == clinic.account.address


# Side by side ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("knows", [True, False], ids=["an index", "no index yet"])
def test_threads_that_contribute_and_fetch_the_same_at_once(knows, give, client_of, index):
    refs, frames = [], []
    clients = [client_of("clinic", index=index if knows else None) for _ in range(4)]

    def work(client):
        refs.append(give(patients(), client=client))
        frames.append(client.fetch(refs[0], progress=False).to_bytes())

    threads = [threading.Thread(target=work, args=[client]) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refs) == len(frames) == 4
    assert len(set(refs)) == len(set(frames)) == 1
    assert clients[0].find() == clients[3].find() == refs[:1]


def test_an_upload_that_was_under_way_until_now_is_found(give, clinic, chain, monkeypatch):
    real = DataIndex.upload

    def late(self, *arguments, **facts):
        """What a node answers when the transaction of an earlier call is mined just before this one."""
        real(self, *arguments, **facts)
        return real(self, *arguments, **facts)

    monkeypatch.setattr(DataIndex, "upload", late)
    ref = give(patients())
    assert clinic.find() == [ref]


def test_the_folder_is_private_and_names_in_it_say_nothing(give, clinic, client_of, tmp_path):
    give(patients())
    folder = tmp_path / "work of clinic"
    assert folder.stat().st_mode & 0o777 == 0o700
    key = folder / "names.key"
    assert key.stat().st_mode & 0o777 == 0o600
    (note,) = folder.glob("*.json")
    other = client_of("clinic", workdir=tmp_path / "elsewhere")
    give(patients(), client=other)
    assert [path.name for path in other._place.folder.glob("*.json")] != [note.name]
    key.write_bytes(b"short")
    with pytest.raises(StoreError, match="expected 32") as caught:
        client_of("clinic")
    assert "delete it" in caught.value.hint


def test_a_folder_that_cannot_be_used(chain, tmp_path):
    wall = tmp_path / "wall"
    wall.write_text("")
    with pytest.raises(StoreError, match="cannot be worked in"):
        DataClient(chain=chain, account=chain.account("clinic"), workdir=wall / "inside")


def test_it_shows_itself(clinic):
    assert "clinic" in repr(clinic)
    assert "file://" in repr(clinic)
