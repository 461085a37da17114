"""Settings from the environment: `<SERVICE>_<FIELD>` into one frozen dataclass a service.

The fields, their types and their defaults are the dataclass; nothing else reads the environment.
A name that no field has is refused, so that a typo cannot hide.
"""

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from libs import masking, tls
from libs.errors import InvalidInput
from libs.tls import Tls

_SHARED = {
    "HOME": "ATHANOR_HOME",
    "OTLP_ENDPOINT": "ATHANOR_OTLP",
    "TRACE_RATIO": "ATHANOR_TRACE_RATIO",
}
"""Field to the variable that sets it for every service."""
_SECRET_ENDINGS = ("_key", "_password", "_secret", "_token")
_FILE = "_FILE"
_SERVICE_LINK = re.compile(
    r"[A-Z0-9_]+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
"""What Kubernetes tells each container about a service: of `loop`, `LOOP_SERVICE_HOST` and more."""
_LINK = re.compile(r"(tcp|udp|sctp)://.*")
"""And `LOOP_PORT`, which would be a setting, with such a value."""
_FOREIGN = frozenset({"LM_LICENSE_FILE"})
"""Variables of other programs that begin like ours."""


@dataclass(frozen=True, kw_only=True)
class ServiceConfig:
    """What every service can be told; each adds its own fields in `services/<x>/config.py`."""

    port: int = 0
    """TCP port for gRPC; 0 takes any free one."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    metrics_port: int = 0
    """TCP port of the page for Prometheus; 0 takes any free one."""
    home: Path = Path(".athanor")
    """Folder of all state in the embedded profile; `ATHANOR_HOME` sets it for every service."""
    max_operations: int = 4
    """Operations run at once, at least 1."""
    lease_s: float = 10.0
    """A lease, or a place on the bus, is lost after so many silent seconds; above 0."""
    clock_shift_file: Path | None = None
    """File with the seconds to shift wall time by, for drills."""
    log_file: Path | None = None
    """File for JSON log lines; None: `<home>/logs/<service>.jsonl`."""
    otlp_endpoint: str = ""
    """Collector of traces, `http://host:port` of an OTLP receiver over gRPC; empty: none.
    `ATHANOR_OTLP` sets it for every service."""
    trace_ratio: float = 1.0
    """Share of the traces that it is told, in [0, 1]; `ATHANOR_TRACE_RATIO` for every service."""
    tls_cert: Path | None = None
    """File of the service's certificate, PEM; its name is the service's noun. All three or none:
    with them every connection, to the service and from it, is mutual TLS."""
    tls_private: Path | None = None
    """File of that certificate's private key."""
    tls_ca: Path | None = None
    """File of the authority's certificate, which those of all others must be signed by."""

    def __post_init__(self) -> None:
        for name in ("port", "metrics_port"):
            if not 0 <= getattr(self, name) <= 65535:
                raise InvalidInput(f"{name} must lie in [0, 65535], got {getattr(self, name)}")
        if self.max_operations < 1:
            raise InvalidInput(f"max_operations must be at least 1, got {self.max_operations}")
        if not self.lease_s > 0:
            raise InvalidInput(f"lease_s must be above 0, got {self.lease_s}")
        if not 0 <= self.trace_ratio <= 1:
            raise InvalidInput(f"trace_ratio must lie in [0, 1], got {self.trace_ratio}")
        _ = self.tls  # raises when some of its files are given and others are not

    @property
    def tls(self) -> Tls | None:
        """Who the service is on the wire; None where connections are plain."""
        return tls.of_paths(cert=self.tls_cert, private=self.tls_private, ca=self.tls_ca)

    def log_path(self, service: str) -> Path:
        """Return the file that `service` logs to."""
        return self.log_file or self.home / "logs" / f"{service}.jsonl"


T = TypeVar("T")


def read(kind: type[T], service: str, env: Mapping[str, str]) -> T:
    """Read the settings of `service` into the dataclass `kind`.

    `ATHANOR_HOME` stands in for the field `home` when `<SERVICE>_HOME` is not set, and likewise
    `ATHANOR_OTLP` and `ATHANOR_TRACE_RATIO` for `otlp_endpoint` and `trace_ratio`. In a field that
    may be None, an empty value and `none` mean None. Secrets may come from a file, see `secret`.
    What Kubernetes or another program says under a name of ours is passed over.

    Raises:
        InvalidInput: an unknown name (the nearest known one is named), a value of another type, a
            field without default that is not set, or what the dataclass itself refuses.
    """
    prefix = service.upper() + "_"
    types_by_field = typing.get_type_hints(kind)
    fields = {prefix + field.name.upper(): field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    given = _given(env, prefix, [name for name in fields if is_secret(name)])
    for name in given.keys() - fields.keys():
        raise InvalidInput(f"{name} is no setting of {service}{_nearest(name, fields)}")
    for field_name, shared in _SHARED.items():
        if shared in env and prefix + field_name in fields:
            given.setdefault(prefix + field_name, env[shared])
    for name, field in fields.items():
        if name not in given and _has_no_default(field):
            raise InvalidInput(f"{name} must be set: {service} has no default for it")
    values = {
        fields[name].name: _parsed(name, text, types_by_field[fields[name].name])
        for name, text in given.items()
    }
    return kind(**values)


def secret(env: Mapping[str, str], name: str) -> str | None:
    """Return the variable `name`, else what the file says that `<name>_FILE` names; None: neither.

    What it returns is masked from then on, see `libs.masking`.

    Raises:
        InvalidInput: both are set, or the file cannot be read.
    """
    file = env.get(name + _FILE)
    if file is not None and name in env:
        raise InvalidInput(f"{name} and {name}{_FILE} are both set: expected one of them")
    found = env.get(name) if file is None else _content(name, Path(file))
    if found is not None and not _is_user(name):
        masking.hide(found)
    return found


def _is_user(name: str) -> bool:
    # An access key is a user's name: masked, it would cut up texts that speak of something else.
    return name.endswith("_ACCESS_KEY") and not name.endswith("_SECRET_ACCESS_KEY")


def _content(name: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InvalidInput(f"{name}{_FILE} names {path}, which cannot be read: {reason}") from None


def _given(env: Mapping[str, str], prefix: str, secrets: Sequence[str]) -> dict[str, str]:
    """Return what is said to the service: secrets read, what is meant for others left out."""
    files = {name + _FILE for name in secrets}
    given = {
        name: text
        for name, text in env.items()
        if name.startswith(prefix) and name not in files and not _is_foreign(name, text)
    }
    found = {name: secret(env, name) for name in secrets}
    return given | {name: text for name, text in found.items() if text is not None}


def _is_foreign(name: str, text: str) -> bool:
    is_port = name.endswith("_PORT") and _LINK.fullmatch(text) is not None
    return is_port or name in _FOREIGN or _SERVICE_LINK.fullmatch(name) is not None


def shown(config: Any) -> dict[str, str]:
    """Return the settings as text for the log, values of secret fields masked."""
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return {
        name: masking.MASK if is_secret(name) and text else str(text)
        for name, text in values.items()
    }


def is_secret(name: str) -> bool:
    """True if a field or variable of that name holds a secret: `..._token`, `..._key` and so on."""
    return f"_{name.lower()}".endswith(_SECRET_ENDINGS)


def _nearest(name: str, known: Mapping[str, object]) -> str:
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    return f"; the nearest is {found[0]}" if found else ""


def _has_no_default(field: "dataclasses.Field[Any]") -> bool:
    missing = dataclasses.MISSING
    return field.default is missing and field.default_factory is missing


def _parsed(name: str, text: str, hint: Any) -> Any:
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if type(None) in kinds and text.strip().lower() in ("", "none"):
        return None
    kind = next(kind for kind in kinds if kind is not type(None))
    try:
        return _PARSERS[kind](text)
    except (KeyError, ValueError):
        # The value is not repeated: it may be a secret that went into the wrong name.
        raise InvalidInput(f"{name} must be of type {kind.__name__}, got something else") from None


def _flag(text: str) -> bool:
    return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[
        text.strip().lower()
    ]


_PARSERS: Mapping[Any, Callable[[str], Any]] = {
    bool: _flag,
    float: float,
    int: int,
    Path: Path,
    str: str,
}
