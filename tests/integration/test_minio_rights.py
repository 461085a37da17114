"""Users, policies and rules on a real MinIO: applied once, seen when they drift, and felt."""

import subprocess
import sys
from pathlib import Path

import pytest

from deploy.minio.rights import BUCKETS, RIGHTS, place, policy, user
from deploy.minio.server import Server, secret_keys
from libs.blobs.minio import MinioBlobs
from libs.errors import Forbidden, NotFound, Unavailable
from libs.launcher.home import unused_port
from tests.buckets import client
from tests.own_minio import OwnMinio

ROOT = Path(__file__).parents[2]
NAMESPACE = "rights-"


@pytest.fixture(scope="module")
def minio(tmp_path_factory):
    with OwnMinio(tmp_path_factory.mktemp("minio")) as server:
        yield server


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return secret_keys(tmp_path_factory.mktemp("secrets"), make=True)


@pytest.fixture(scope="module")
def server(minio, keys):
    """The server with everything applied."""
    server = at(minio.settings)
    server.await_ready(60)
    for change in server.changes(keys):
        server.make(change)
    return server


def at(settings, **other):
    return Server(
        settings["ATHANOR_MINIO"],
        **{
            "access_key": settings["ATHANOR_MINIO_ACCESS_KEY"],
            "secret_key": settings["ATHANOR_MINIO_SECRET_KEY"],
            "namespace": NAMESPACE,
        }
        | other,
    )


@pytest.fixture
def as_service(minio, server, keys, tmp_path):
    """Open the store with one service's credentials."""
    return lambda service, namespace=NAMESPACE: MinioBlobs(
        minio.settings["ATHANOR_MINIO"],
        access_key=user(NAMESPACE, service),
        secret_key=keys[service],
        namespace=namespace,
        cache=tmp_path,
    )


def test_applying_twice_changes_nothing(server, keys):
    assert server.changes(keys) == []


def test_every_bucket_is_there(minio, server):
    there = {bucket.name for bucket in client(minio.settings).list_buckets()}
    assert {place(NAMESPACE, bucket) for bucket in BUCKETS} <= there


@pytest.mark.parametrize("service", [name for name in RIGHTS if name != "triton"])
def test_a_service_may_do_what_the_port_offers_where_it_works(as_service, service):
    blobs, name = as_service(service), f"operations/{service}/ab.json"
    etag = blobs.create(name, b"1").etag
    blobs.replace_if(name, b"2", etag=etag)
    assert blobs.local(name).read_bytes() == blobs.read(name).data == b"2"
    assert [blob.name for blob in blobs.list(f"operations/{service}/")] == [name]
    large = blobs.create(f"tmp/{service}", bytes(17 << 20))
    assert blobs.stat(f"tmp/{service}") == large
    blobs.delete(f"tmp/{service}")
    with pytest.raises(NotFound):
        blobs.read("artifacts/none")


@pytest.mark.parametrize(
    "name", ["registry/models.json", "rounds/x.json", "operations/loop/x.json", "models/lm/1/x"]
)
def test_the_corpus_may_write_nothing_of_the_loops(as_service, name):
    with pytest.raises(Forbidden, match=name):
        as_service("corpus").create(name, b"x")
    with pytest.raises(Forbidden, match=name):
        as_service("corpus").create(name, bytes(17 << 20))


@pytest.mark.parametrize("service", ["sampler", "trainer", "evaluator"])
def test_a_service_that_forgets_no_documents_may_delete_no_artifact(as_service, service):
    name = f"artifacts/{service}/kept"
    as_service(service).create(name, b"x")
    with pytest.raises(Forbidden, match="AccessDenied"):
        as_service(service).delete(name)
    assert as_service("loop").read(name).data == b"x"


def test_the_corpus_deletes_what_it_forgets_and_nothing_of_the_loops(as_service):
    as_service("corpus").create("artifacts/ab/forgotten", b"x")
    as_service("corpus").delete("artifacts/ab/forgotten")
    as_service("loop").create("registry/kept", b"x")
    with pytest.raises(Forbidden, match="AccessDenied"):
        as_service("corpus").delete("registry/kept")


def test_triton_reads_models_and_nothing_else(as_service):
    as_service("lm", "").create("models/live/config.pbtxt", b"name: 'live'")
    assert as_service("triton", "").read("models/live/config.pbtxt").data == b"name: 'live'"
    with pytest.raises(Forbidden):
        as_service("triton").stat("artifacts/sampler/kept")
    with pytest.raises(Forbidden):
        as_service("triton", "").create("models/live/2/model.py", b"")


def test_a_missing_bucket_is_forbidden_with_the_remedy(as_service):
    with pytest.raises(Forbidden, match=r"python -m deploy\.minio"):
        as_service("corpus").create("unheard-of/x", b"x")


def test_drift_is_seen_and_undone(minio, server, keys):
    bare = client(minio.settings)
    bare.remove_bucket(place(NAMESPACE, "reports"))
    bare.delete_bucket_lifecycle(place(NAMESPACE, "tmp"))
    wider = policy(RIGHTS["loop"], NAMESPACE)
    server._admin.policy_add(user(NAMESPACE, "corpus"), policy=wider)
    server._admin.user_add(user(NAMESPACE, "sampler"), "another-secret")
    server._admin.user_remove(user(NAMESPACE, "trainer"))
    changes = server.changes(keys)
    assert [change.text for change in changes] == [
        "create bucket rights-reports",
        "delete what is older than 7 days in bucket rights-tmp",
        "set policy rights-corpus",
        "set the secret of user rights-sampler",
        "create user rights-trainer",
        "give user rights-trainer its policy",
    ]
    for change in changes:
        server.make(change)
    assert server.changes(keys) == []


def test_only_an_administrator_may_look(minio, server, keys):
    looked = at(minio.settings, access_key=user(NAMESPACE, "corpus"), secret_key=keys["corpus"])
    with pytest.raises(Forbidden, match="only an administrator"):
        looked.await_ready(0)
    with pytest.raises(Forbidden, match="only an administrator"):
        looked.changes(keys)


def test_a_server_that_is_down_is_unavailable(keys):
    settings = {"ATHANOR_MINIO": f"http://127.0.0.1:{unused_port(set())}"}
    with pytest.raises(Unavailable, match="MinIO at http://127"):
        at({**settings, "ATHANOR_MINIO_ACCESS_KEY": "a", "ATHANOR_MINIO_SECRET_KEY": "b"}).changes(
            keys
        )


def test_the_command_plans_applies_and_then_finds_nothing_to_do(minio, tmp_path):
    def run(verb):
        command = [sys.executable, "-m", "deploy.minio", verb, "--secrets", str(tmp_path / "s")]
        env = {**minio.settings, "ATHANOR_NAMESPACE": "command-", "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60
        )

    planned = run("plan")
    assert (planned.returncode, "create user command-corpus" in planned.stdout) == (1, True)
    assert not (tmp_path / "s").exists()
    assert run("apply").stdout == planned.stdout
    assert [oct(path.stat().st_mode)[-3:] for path in (tmp_path / "s").iterdir()] == ["600"] * 7
    assert (run("plan").returncode, run("plan").stdout) == (0, "")
