"""Kafka: who answers, and whether we may describe and create topics."""

import secrets
from functools import partial

from deploy.local.finding import Finding
from deploy.local.sights.sight import (
    CALL_S,
    Settings,
    Sight,
    denials,
    has,
    unreachable,
    untried,
    with_rights,
)
from deploy.local.stack import look
from libs.clock import Clock


def look_at(settings: Settings, _: Clock) -> Sight:
    """Look at the first broker named and, through it, at the cluster."""
    addresses = settings["ATHANOR_KAFKA"].split(",")
    try:
        brokers = look.kafka_brokers(addresses[0])
    except (OSError, ValueError) as error:
        return unreachable("kafka", addresses[0], error)
    if not has("kafka"):
        return untried("kafka", addresses[0])
    told = f"{', '.join(addresses)}, {len(brokers)} in the cluster"
    return Sight([_rights(addresses, told, settings.get("ATHANOR_NAMESPACE", ""))])


def _rights(addresses: list[str], told: str, namespace: str) -> Finding:
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError

    wait_ms = int(CALL_S * 1000)
    try:
        admin = KafkaAdminClient(
            bootstrap_servers=addresses, request_timeout_ms=wait_ms, bootstrap_timeout_ms=wait_ms
        )
    except KafkaError as error:
        return Finding("kafka", f"{told}; refused: {error!r}", "the broker's log says why")
    probe = {f"{namespace}doctor-{secrets.token_hex(4)}": {"num_partitions": 1}}
    acts = {
        "describe topics": admin.list_topics,
        # The broker checks the right and makes nothing.
        "create topics": partial(admin.create_topics, probe, validate_only=True),
    }
    try:
        denied = denials(acts, (KafkaError,))
        version = ".".join(map(str, admin.get_broker_version_data(1).broker_version))
    except KafkaError:
        version = "of unknown version"
    finally:
        admin.close()
    remedy = "grant our user Describe and Create on topics and on the cluster"
    return with_rights("kafka", f"{told}, {version}", denied, remedy)
