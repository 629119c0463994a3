"""Studies of earlier versions are still read: records as they were written before the package's modules had rooms."""

import builders

import autoopt

EARLIER = builders.ROOT / "tests" / "support" / "earlier"
DIGESTS = ["4ab7f0f9556d8dd3", "e8880e68fda4613c", "473ab2878887835e", "fc26e75b545fd1a0", "eb664046d335c985"]
"""The digests of its recipes, as the version that wrote them computed them."""


def test_a_study_of_before_is_read_as_it_was() -> None:
    results = autoopt.load(EARLIER)
    assert results.damaged == ()
    assert [c.number for c in results.candidates] == [0, 1, 2, 3, 4]
    labels = [candidate.recipe.label() for candidate in results.candidates]
    assert labels[0] == "float32"
    assert results.front()
    assert all(len(c.recipe.digest) == 16 and c.value("size_bytes") for c in results.candidates)


def test_what_was_not_measured_then_fits_no_budget() -> None:
    results = autoopt.load(EARLIER)
    assert not any("download_bytes" in candidate.measurements for candidate in results.candidates)
    pick = results.pick(max_download="1GB")
    assert pick.candidate is None
    assert pick.why.startswith("nothing fits")


def test_its_recipes_are_those_that_are_written_today() -> None:
    """Digests decide what is made again: a setting that was added since must not change them."""
    for candidate in autoopt.load(EARLIER).candidates:
        assert autoopt.Recipe.from_json(candidate.recipe.to_json()) == candidate.recipe
    assert [c.recipe.digest for c in autoopt.load(EARLIER).candidates] == DIGESTS
