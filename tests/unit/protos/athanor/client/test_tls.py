from pathlib import Path

import pytest
from athanor.client.connection import open_channel
from athanor.client.errors import AthanorError
from athanor.client.tls import NAMES, Tls


def test_an_environment_that_names_nothing_means_plain():
    assert Tls.from_environment({}) is None


def test_an_environment_names_all_three_files():
    made = Tls.from_environment(dict(zip(NAMES, ("c", "k", "a"), strict=True)))
    assert made == Tls(cert=Path("c"), private=Path("k"), ca=Path("a"))


def test_an_environment_that_names_some_is_refused():
    with pytest.raises(AthanorError, match="got no ATHANOR_TLS_KEY, ATHANOR_TLS_CA"):
        Tls.from_environment({"ATHANOR_TLS_CERT": "c"})


def test_a_file_that_is_absent_is_named(tmp_path):
    path = tmp_path / "absent"
    with pytest.raises(AthanorError, match="absent"):
        open_channel("127.0.0.1:1", tls=Tls(cert=path, private=path, ca=path))
