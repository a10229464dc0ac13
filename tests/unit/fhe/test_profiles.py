import pytest

from twopm_kit import fhe
from twopm_kit.errors import ProfileError
from twopm_kit.fhe.engine import Engine, engine_for
from twopm_kit.fhe.profiles import SECURITY_LIMIT, Profile

GOOD = {
    "name": "mine",
    "degree": 8192,
    "bits": (60, 40, 40, 60),
    "scale_bits": 40,
    "min_scale_bits": 40,
    "headroom_bits": 0,
    "purpose": "a test",
}


@pytest.mark.parametrize("name", list(fhe.PROFILES))
def test_profile_is_within_the_tighter_table_and_accepted_by_seal(name):
    profile = fhe.PROFILES[name]
    assert sum(profile.bits) <= SECURITY_LIMIT[profile.degree]
    engine = engine_for(name)
    assert len(engine.primes) == profile.levels + 1
    assert [p.bit_length() for p in engine.primes] == list(profile.bits[: profile.levels + 1])


def test_table_shows_every_profile():
    table = fhe.PROFILES.describe()
    names = ["agg", "linear", "mlp", "trees", "train", "cnn", "deep"]
    assert list(table.index) == list(fhe.PROFILES) == names
    assert table.loc["linear", "levels"] == 1
    assert "<script" not in fhe.PROFILES._repr_html_()
    assert "linear" in repr(fhe.PROFILES)
    assert "linear" in fhe.PROFILES
    assert "other" not in fhe.PROFILES


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"degree": 2048}, "degree"),
        (
            {"bits": (60, 60, 60, 60), "scale_bits": 60, "min_scale_bits": 60},
            "26 bits out of bits= or take degree=16384",
        ),
        ({"bits": (60, 40, 40, 70)}, "prime sizes"),
        ({"bits": ()}, "prime sizes"),
        ({"bits": (60, 40, 40, 50)}, "last entry"),
        ({"bits": (60, 60)}, "one prime"),
        ({"bits": (44, 40, 40, 60)}, "raise the first entry"),
        ({"bits": (60, 40, 39, 60)}, "middle entry"),
        ({"min_scale_bits": 30}, "min_scale_bits"),
        ({"min_scale_bits": 41}, "min_scale_bits"),
        ({"headroom_bits": 19}, "headroom_bits"),
    ],
)
def test_each_bad_number_is_named(change, words):
    with pytest.raises(ProfileError) as caught:
        Profile(**{**GOOD, **change})
    assert words in str(caught.value)
    assert caught.value.hint


def test_good_numbers_pass():
    assert Profile(**GOOD).levels == 2


def test_primes_far_from_the_scale_are_refused():
    # a prime that fits N = 16384 is 1 modulo 32768: those of 24 bits are further from 2^24 than 0.2 %
    profile = Profile("coarse", 16384, (60, 24, 24, 24, 60), 24, 24, 0, "a test")
    with pytest.raises(ProfileError, match="differs from the scale"):
        Engine(profile)


def test_unknown_profile():
    with pytest.raises(ProfileError, match="use one of: agg, linear"):
        fhe.KeyHolder.generate("paranoid")


def test_bound_classes_are_coarse():
    linear = fhe.PROFILES["linear"]
    assert [linear.bound_for(v) for v in (0.0, 1.0, 1.01, 16.0, 17.0, 4254.0)] == [1, 1, 4, 16, 64, 16384]
    assert linear.bound_for(linear.max_value) == linear.max_value == 2.0**28


def test_primes_that_do_not_exist_are_refused():
    profile = Profile("tiny", 16384, (60, 20, 20, 20, 60), 20, 20, 0, "a test")
    with pytest.raises(ProfileError, match="no such primes"):
        Engine(profile)
