from pathlib import Path

import pytest

from deploy.tls.authority import make
from deploy.tls.folder import identity
from libs.clock import Clock
from libs.errors import InvalidInput
from libs.tls import of_paths


@pytest.fixture
def files(tmp_path):
    make(tmp_path, ["corpus", "loop"])
    return identity(tmp_path, "corpus")


def test_a_good_certificate_has_no_fault(files):
    assert files.fault() == ""


def test_the_end_of_a_certificate_is_known(files):
    assert files.ends_at() == pytest.approx(Clock().now() + 365 * 86400, abs=600)
    files.cert.unlink()
    assert files.ends_at() == 0


def test_a_key_of_another_certificate_is_a_fault(files, tmp_path):
    files.private.write_bytes(identity(tmp_path, "loop").private.read_bytes())
    assert "corpus.pem cannot be used" in files.fault()


def test_an_absent_file_is_a_fault(files):
    files.ca.unlink()
    assert "corpus.pem cannot be used" in files.fault()


def test_paths_are_all_there_or_none(files):
    assert of_paths(cert=None, private=None, ca=None) is None
    assert of_paths(cert=files.cert, private=files.private, ca=files.ca) == files
    with pytest.raises(InvalidInput, match="got no tls_private, tls_ca"):
        of_paths(cert=Path("x"), private=None, ca=None)
