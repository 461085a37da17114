"""Elasticsearch: its health, and whether we may make and delete an index."""

import secrets
from functools import partial
from http import HTTPStatus

from deploy.local.finding import Finding
from deploy.local.sights.sight import CALL_S, START, Settings, Sight, denials, unreachable
from deploy.local.sights.sight import with_rights as rights
from deploy.local.stack import look
from libs.clock import Clock


def look_at(settings: Settings, clock: Clock) -> Sight:
    """Look at the first node named."""
    url = settings["ATHANOR_ELASTICSEARCH"].split(",")[0].rstrip("/")
    try:
        health = look.get(f"{url}/_cluster/health").json()["status"]
        nodes = look.get(f"{url}/_nodes/_local/stats/os?filter_path=nodes.*.timestamp").json()
        version = look.get(f"{url}/_nodes/_local?filter_path=nodes.*.version").json()
    except (OSError, LookupError, ValueError) as error:
        return unreachable("elasticsearch", url, error)
    (node,), (named,) = nodes["nodes"].values(), version["nodes"].values()
    told = f"{url}, {named['version']}, {health}"
    skew_s = node["timestamp"] / 1000 - clock.now()
    if health == "red":
        return Sight([Finding("elasticsearch", f"{told}: shards are lost", START)], skew_s)
    index = f"{url}/{settings.get('ATHANOR_NAMESPACE', '')}doctor-{secrets.token_hex(6)}"
    acts = {f"{verb} an index": partial(_act, method, index) for verb, method in _ACTS.items()}
    remedy = "grant our user the right to manage indexes"
    return Sight([rights("elasticsearch", told, denials(acts, (OSError,)), remedy)], skew_s)


_ACTS = {"create": "PUT", "delete": "DELETE"}


def _act(method: str, url: str) -> None:
    answer = look.get(url, method=method, timeout_s=CALL_S)
    if answer.status != HTTPStatus.OK:
        raise OSError(f"{answer.status} {answer.body[:200].decode(errors='replace')}")
