"""The table of rights says what it means, and names what the services' code names."""

import pytest

from deploy.local.programs import SERVICES
from deploy.minio.rights import BUCKETS, RIGHTS, policy


def allowed(service, action):
    return [
        resource
        for statement in policy(RIGHTS[service], "t1-")["Statement"]
        for resource in statement["Resource"]
        if action in statement["Action"]
    ]


def test_every_service_has_a_row():
    assert set(RIGHTS) == {*SERVICES, "triton"}


@pytest.mark.parametrize("service", RIGHTS)
def test_a_row_names_only_buckets_that_there_are(service):
    rights = RIGHTS[service]
    named = {name.partition("/")[0] for name in (*rights.read, *rights.write, *rights.delete)}
    assert named <= set(BUCKETS)


def test_a_service_may_write_its_own_operations_and_nobody_elses():
    assert "arn:aws:s3:::t1-operations/corpus/*" in allowed("corpus", "s3:PutObject")
    others = [each for each in allowed("corpus", "s3:PutObject") if "operations/" in each]
    assert others == ["arn:aws:s3:::t1-operations/corpus/*"]


def test_only_the_loop_may_write_the_registry_and_beside_it_only_the_corpus_deletes_artifacts():
    writers = [
        name for name in RIGHTS if "arn:aws:s3:::t1-registry/*" in allowed(name, "s3:PutObject")
    ]
    deleters = [
        name for name in RIGHTS if "arn:aws:s3:::t1-artifacts/*" in allowed(name, "s3:DeleteObject")
    ]
    assert writers == ["loop"]
    assert deleters == ["corpus", "loop"]


def test_triton_reads_its_repository_and_nothing_else():
    assert policy(RIGHTS["triton"], "")["Statement"] == [
        {"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": ["arn:aws:s3:::models"]},
        {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": ["arn:aws:s3:::models/*"]},
    ]
