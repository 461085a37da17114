from dataclasses import dataclass
from pathlib import Path

import pytest

from libs.config import ServiceConfig, read, secret, shown
from libs.errors import InvalidInput
from libs.masking import masked
from libs.tls import Tls


@dataclass(frozen=True, kw_only=True)
class OvenConfig(ServiceConfig):
    fan: bool = False
    recipe: str | None = None
    api_token: str = ""


@dataclass(frozen=True, kw_only=True)
class NeedsAddress(ServiceConfig):
    lm_address: str


def test_every_type_is_parsed():
    env = {
        "OVEN_PORT": "50051",
        "OVEN_LEASE_S": "2.5",
        "OVEN_FAN": "true",
        "OVEN_HOME": "state",
        "OVEN_RECIPE": "bread",
        "PATH": "of another",
    }
    config = read(OvenConfig, "oven", env)
    assert config == OvenConfig(
        port=50051, lease_s=2.5, fan=True, home=Path("state"), recipe="bread"
    )


@pytest.mark.parametrize("text", ["", "none", "None"])
def test_none_is_a_value_where_the_field_allows_it(text):
    assert read(OvenConfig, "oven", {"OVEN_RECIPE": text}).recipe is None


def test_an_unknown_name_is_refused_with_the_nearest_known_one():
    with pytest.raises(InvalidInput, match=r"OVEN_PROT is no setting of oven.*OVEN_PORT"):
        read(OvenConfig, "oven", {"OVEN_PROT": "1"})


@pytest.mark.parametrize(
    ("name", "text"), [("OVEN_PORT", "x"), ("OVEN_LEASE_S", ""), ("OVEN_FAN", "maybe")]
)
def test_a_value_of_another_type_is_refused_by_name_and_not_repeated(name, text):
    with pytest.raises(InvalidInput, match=f"{name} must be of type") as caught:
        read(OvenConfig, "oven", {name: text})
    assert not text or repr(text) not in str(caught.value)


@pytest.mark.parametrize(
    "env", [{"OVEN_PORT": "65536"}, {"OVEN_MAX_OPERATIONS": "0"}, {"OVEN_LEASE_S": "0"}]
)
def test_a_value_out_of_range_is_refused(env):
    with pytest.raises(InvalidInput, match="must"):
        read(OvenConfig, "oven", env)


def test_a_certificate_is_three_files_or_none():
    files = {"OVEN_TLS_CERT": "c", "OVEN_TLS_PRIVATE": "k", "OVEN_TLS_CA": "a"}
    config = read(OvenConfig, "oven", files)
    assert config.tls == Tls(cert=Path("c"), private=Path("k"), ca=Path("a"))
    assert read(OvenConfig, "oven", {}).tls is None
    with pytest.raises(InvalidInput, match="got no tls_private, tls_ca"):
        read(OvenConfig, "oven", {"OVEN_TLS_CERT": "c"})


def test_a_field_without_default_must_be_set():
    with pytest.raises(InvalidInput, match="OVEN_LM_ADDRESS must be set"):
        read(NeedsAddress, "oven", {})


def test_one_home_serves_every_service_until_a_service_has_its_own():
    shared = {"ATHANOR_HOME": "shared"}
    assert read(OvenConfig, "oven", shared).home == Path("shared")
    assert read(OvenConfig, "oven", shared | {"OVEN_HOME": "own"}).home == Path("own")


def test_logs_lie_under_home_unless_told_otherwise():
    assert OvenConfig(home=Path("h")).log_path("oven") == Path("h/logs/oven.jsonl")
    assert OvenConfig(log_file=Path("x")).log_path("oven") == Path("x")


def test_secrets_are_masked_where_settings_are_shown():
    config = OvenConfig(api_token="hush")
    assert shown(config)["api_token"] == "***"
    assert shown(config)["port"] == "0"


def test_a_secret_may_come_from_a_file_and_is_masked_from_then_on(tmp_path):
    file = tmp_path / "token"
    file.write_text("hush-of-a-file\n")
    config = read(OvenConfig, "oven", {"OVEN_API_TOKEN_FILE": str(file)})
    assert config.api_token == "hush-of-a-file"
    assert masked("it is hush-of-a-file") == "it is ***"


def test_a_secret_that_is_given_twice_or_in_a_file_that_is_absent_is_refused(tmp_path):
    both = {"OVEN_API_TOKEN": "hush-twice", "OVEN_API_TOKEN_FILE": "x"}
    with pytest.raises(InvalidInput, match="OVEN_API_TOKEN and OVEN_API_TOKEN_FILE"):
        read(OvenConfig, "oven", both)
    absent = {"OVEN_API_TOKEN_FILE": str(tmp_path / "absent")}
    with pytest.raises(InvalidInput, match=r"absent, which cannot be read: No such file"):
        read(OvenConfig, "oven", absent)


def test_the_name_of_a_user_may_come_from_a_file_and_is_not_masked(tmp_path):
    file = tmp_path / "user"
    file.write_text("somebody")
    assert secret({"STORE_ACCESS_KEY_FILE": str(file)}, "STORE_ACCESS_KEY") == "somebody"
    assert masked("somebody") == "somebody"


def test_only_secrets_come_from_files():
    with pytest.raises(InvalidInput, match="OVEN_RECIPE_FILE is no setting"):
        read(OvenConfig, "oven", {"OVEN_RECIPE_FILE": "x"})


@pytest.mark.parametrize(
    "name",
    [
        *("OVEN_SERVICE_HOST", "OVEN_SERVICE_PORT", "OVEN_SERVICE_PORT_GRPC"),
        *("OVEN_PORT_50051_TCP", "OVEN_PORT_50051_TCP_ADDR", "OVEN_METRICS_SERVICE_HOST"),
        "LM_LICENSE_FILE",
    ],
)
def test_what_kubernetes_or_another_program_says_is_passed_over(name):
    service = name.partition("_")[0].lower()
    assert read(OvenConfig, service, {name: "10.0.0.1"}) == OvenConfig()


def test_a_port_that_is_kubernetes_link_is_passed_over():
    link = "tcp://10.0.0.1:50051"
    assert read(OvenConfig, "oven", {"OVEN_PORT": link, "OVEN_METRICS_PORT": link}).port == 0
    with pytest.raises(InvalidInput, match="OVEN_PORTS is no setting"):
        read(OvenConfig, "oven", {"OVEN_PORTS": link})
