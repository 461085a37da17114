from datetime import timedelta

import pytest
from cryptography import x509
from typer.testing import CliRunner

from deploy.tls.__main__ import app
from deploy.tls.authority import make
from deploy.tls.folder import identity
from libs.clock import Clock
from libs.errors import Corrupt, Unavailable

YEAR_S = 365 * 86400.0


class Later(Clock):
    """A clock that is ahead."""

    def __init__(self, seconds):
        super().__init__()
        self._seconds = seconds

    def now(self):
        return super().now() + self._seconds


def certificate(folder, name):
    return x509.load_pem_x509_certificate(identity(folder, name).cert.read_bytes())


def test_a_certificate_names_its_owner_and_loopback(tmp_path):
    make(tmp_path, ["corpus"])
    made = certificate(tmp_path, "corpus")
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert made.subject.rfc4514_string() == "CN=corpus"
    assert names.get_values_for_type(x509.DNSName) == ["corpus", "localhost"]
    assert [str(each) for each in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]


def test_every_file_is_readable_by_its_owner_alone(tmp_path):
    make(tmp_path / "tls", ["corpus"])
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "tls").iterdir()}
    assert modes == dict.fromkeys(["ca.key", "ca.pem", "corpus.key", "corpus.pem"], 0o600)


def test_what_lasts_is_kept_and_what_runs_out_is_renewed_under_the_same_key(tmp_path):
    assert make(tmp_path, ["corpus"]) == ["corpus"]
    key = identity(tmp_path, "corpus").private.read_bytes()
    assert make(tmp_path, ["corpus", "loop"]) == ["loop"]
    assert make(tmp_path, ["corpus"], clock=Later(YEAR_S * 0.7)) == ["corpus"]
    assert identity(tmp_path, "corpus").private.read_bytes() == key


def test_renewing_replaces_every_certificate_but_not_the_authority(tmp_path):
    make(tmp_path, ["corpus"])
    before = certificate(tmp_path, "corpus"), certificate(tmp_path, "ca")
    assert make(tmp_path, ["corpus"], renew=True) == ["corpus"]
    assert certificate(tmp_path, "corpus") != before[0]
    assert certificate(tmp_path, "ca") == before[1]


def test_a_short_life_ends(tmp_path):
    make(tmp_path, ["corpus"], valid=timedelta(seconds=-1))
    assert "has expired" in identity(tmp_path, "corpus").fault()


def test_a_broken_file_is_named(tmp_path):
    make(tmp_path, ["corpus"])
    identity(tmp_path, "corpus").cert.write_text("no certificate")
    with pytest.raises(Corrupt, match=r"corpus\.pem must hold a certificate"):
        make(tmp_path, ["corpus"])


def test_a_folder_that_cannot_be_is_unavailable(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="certificates cannot be kept in"):
        make(tmp_path / "file" / "tls", ["corpus"])


def test_the_command_makes_everybodys_and_says_so(tmp_path):
    result = CliRunner().invoke(app, ["make", str(tmp_path), "--days", "1"])
    assert result.exit_code == 0, result.output
    assert "made lm, corpus, sampler, trainer, evaluator, loop, operator, prometheus" in (
        result.output
    )
