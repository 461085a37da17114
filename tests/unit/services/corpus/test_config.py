import pytest

from libs.errors import InvalidInput
from services.corpus.config import Config


def test_hosts_are_names_with_address_and_port():
    config = Config(hosts="Docs.example=127.0.0.1:80, b=10.0.0.1:8080")
    assert config.addresses_by_host == {"docs.example": ("127.0.0.1", 80), "b": ("10.0.0.1", 8080)}


@pytest.mark.parametrize("hosts", ["docs.example", "docs.example=127.0.0.1", "a=b:c"])
def test_a_malformed_host_is_refused(hosts):
    with pytest.raises(InvalidInput, match="name=address:port"):
        Config(hosts=hosts)
