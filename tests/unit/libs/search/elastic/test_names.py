"""What indexes are called there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.errors import InvalidInput
from libs.search.elastic import names

NAMES = st.from_regex(r"[A-Za-z0-9_=-][A-Za-z0-9._=-]{0,12}", fullmatch=True)


@given(NAMES, NAMES)
def test_different_names_have_different_aliases_in_lower_case(one, other):
    aliases = [names.alias("", name) for name in (one, other)]
    assert (aliases[0] == aliases[1]) == (one == other)
    assert all(alias == alias.lower() and alias[0] not in "-_+." for alias in aliases)


def test_an_artifacts_index_is_called_as_the_artifact():
    assert names.alias("lab-", "ab12" * 16) == "lab-" + "ab12" * 16


def test_no_name_is_that_of_a_version():
    version = names.version(names.alias("", "a"), 1)
    assert version == "a@v000001"
    assert names.number(version) == 1
    assert names.number(names.alias("", "a-v000001")) == 0


@pytest.mark.parametrize("namespace", ["Lab", "-lab", "_lab", "lab/", "lab@", "*"])
def test_a_namespace_that_names_cannot_begin_with_is_refused(namespace):
    with pytest.raises(InvalidInput, match="namespace"):
        names.alias(namespace, "i")


def test_a_name_that_is_too_long_there_is_refused():
    with pytest.raises(InvalidInput, match="255"):
        names.alias("", "A" * 100)
