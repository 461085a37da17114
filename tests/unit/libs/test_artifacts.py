import hashlib
import itertools
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from libs.artifacts import Artifacts, Finding
from libs.blobs.folder import FolderBlobs
from libs.errors import Corrupt, InvalidInput, NotFound
from libs.manifest import File, Manifest, Request
from tests import buckets
from tests.mortal import Killed, Mortal

FILES = {"plan.json": b"{}", "draws.npy": bytes(range(200)), "result.json": b"{}"}
IN_A_FOLDER = pytest.mark.parametrize("blobs", ["folder"], indirect=True)
"""For tests that damage what is stored: where bytes lie, only the folder tells."""
CALLS = ("create", "replace_if", "read", "read_range", "stat", "list", "delete", "local")


class MortalAtAnyCall(Mortal):
    """One that knows of no call that is not counted."""

    def __getattr__(self, call):
        assert call in CALLS
        return super().__getattr__(call)


@pytest.fixture(params=buckets.ADAPTERS)
def blobs(request, tmp_path):
    with buckets.opener(request.param, request, tmp_path) as open_blobs:
        yield open_blobs()


@pytest.fixture
def artifacts(blobs):
    return Artifacts(blobs, now=itertools.count(1000).__next__)


@pytest.fixture
def folder(tmp_path):
    """Make a folder of given files; a new one each call."""
    numbers = itertools.count()

    def make(files=FILES):
        made = tmp_path / f"out{next(numbers)}"
        made.mkdir()
        for name, content in files.items():
            (made / name).write_bytes(content)
        return made

    return make


def request(kind="plan", inputs=None, **parameters):
    return Request(kind=kind, inputs=inputs or {}, parameters=parameters, recipe_version=1)


def damage(blobs, name, content=b"damaged"):
    """Change stored bytes behind the store's back."""
    path = blobs.local(name).resolve()
    path.chmod(0o644)
    path.write_bytes(content)


def flip(blobs, name):
    data = bytearray(blobs.read(name).data)
    data[len(data) // 2] ^= 1
    damage(blobs, name, bytes(data))


def plant(blobs, fields):
    """Store a manifest of any fields under the id that it has."""
    data = json.dumps(fields).encode()
    planted = hashlib.sha256(data).hexdigest()
    blobs.create(f"artifacts/{planted}/manifest.json", data)
    return planted


@pytest.fixture
def family(artifacts, folder):
    """Ids of a checkpoint, the plan it was trained on, and the tokens that both have."""

    def make(kind, **inputs):
        return artifacts.create(request(kind, inputs), folder({"data": kind.encode()}), run={})

    tokens = make("tokens")
    plan = make("plan", tokens=tokens)
    return make("checkpoint", plan=plan, corpus=tokens), plan, tokens


def test_the_digest_of_a_request_follows_what_was_asked_and_not_its_order():
    asked = request(a=1, b=[2.5, "x"])
    assert asked.digest == request(b=[2.5, "x"], a=1).digest
    others = [request(a=1, b=[2.5]), request("tokens", a=1, b=[2.5, "x"]), request(a=1)]
    others += [request(inputs={"plan": "x"}, a=1, b=[2.5, "x"])]
    others += [Request(kind="plan", inputs={}, parameters=asked.parameters, recipe_version=2)]
    assert len({each.digest for each in [asked, *others]}) == 6


def test_a_request_is_the_sha256_of_its_canonical_json():
    canonical = b'{"inputs":{"t":"ab"},"kind":"plan","parameters":{"n":1},"recipe_version":1}'
    assert request(inputs={"t": "ab"}, n=1).digest == hashlib.sha256(canonical).hexdigest()


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, b"bytes"])
def test_parameters_must_be_json(value):
    with pytest.raises(InvalidInput, match="JSON"):
        _ = request(n=value).digest


def test_a_manifest_is_read_back_and_keeps_its_id():
    files = (File("a", 1, "0" * 64), File("b", 2, "1" * 64))
    manifest = Manifest(
        kind="plan", inputs={"t": "ab"}, parameters={"n": 0.1}, recipe_version=3, files=files
    )
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert Manifest.from_json(manifest.to_json()).id == manifest.id
    assert manifest.id == hashlib.sha256(manifest.to_json()).hexdigest()


@pytest.mark.parametrize(
    "data", [b"", b'{"kind":"pl', b"[]", b"{}", b'{"schema_version":"1"}', b"\xff", b"null"]
)
def test_bytes_that_are_no_manifest_are_corrupt(data):
    with pytest.raises(Corrupt, match="manifest"):
        Manifest.from_json(data)


def test_what_is_created_is_opened(artifacts, folder):
    made = artifacts.create(request(seed=7), folder(), run={"seconds": 1.5})
    artifact = artifacts.open(made)
    assert artifact.manifest.parameters == {"seed": 7}
    assert [file.name for file in artifact.manifest.files] == sorted(FILES)
    assert {name: artifact.path(name).read_bytes() for name in FILES} == FILES
    assert artifact.run() == {"seconds": 1.5, "create_time": 1000}


def test_what_was_measured_is_in_no_digest(artifacts, folder, tmp_path):
    made = artifacts.create(request(), folder(), run={"seconds": 1.5})
    elsewhere = Artifacts(FolderBlobs(tmp_path / "elsewhere"))
    assert elsewhere.create(request(), folder(), run={"seconds": 99}) == made


def test_the_folder_holds_every_file_under_its_name(artifacts, folder):
    local = artifacts.open(artifacts.create(request(), folder(), run={})).folder()
    assert {name: (local / name).read_bytes() for name in FILES} == FILES


def test_a_request_is_answered_from_the_index(artifacts, folder):
    assert artifacts.find(request()) is None
    made = artifacts.create(request(), folder(), run={})
    assert artifacts.find(request()) == made
    assert artifacts.find(request(seed=1)) is None


def test_to_the_same_request_the_first_answer_wins(artifacts, folder):
    first = artifacts.create(request(), folder(), run={"seconds": 1})
    again = artifacts.create(request(), folder({"result.json": b"other"}), run={"seconds": 2})
    assert again == first
    assert artifacts.open(first).run()["seconds"] == 1
    assert [each.id for each in artifacts.list()] == [first]


@pytest.mark.parametrize("content_of", [lambda i: b"%d" % i, lambda i: b"same"])
def test_racing_creators_all_return_the_one_answer(artifacts, folder, content_of):
    start = threading.Barrier(8)

    def create(index):
        out = folder({"result.json": content_of(index)})
        start.wait(timeout=30)
        return artifacts.create(request(), out, run={"by": index})

    with ThreadPoolExecutor(8) as pool:
        answers = set(pool.map(create, range(8)))
    assert answers == {artifacts.find(request())}
    assert [each.id for each in artifacts.list()] == [*answers]
    assert {each.problem for each in artifacts.verify(*answers)} == {""}


def killed_creations(blobs, folder):
    """Kill a creation before each of its calls in turn, and yield; ends when one goes through."""
    for calls in itertools.count():
        asked = request(calls=calls)
        try:
            Artifacts(MortalAtAnyCall(blobs, calls, counted=CALLS)).create(asked, folder(), run={})
            return
        except Killed:
            yield asked


def test_a_creation_killed_anywhere_is_invisible_until_it_is_repeated(blobs, artifacts, folder):
    killed = list(killed_creations(blobs, folder))
    assert len(killed) == 2 + len(FILES) + 3  # look-up, forgotten, files, run, manifest, index
    done = list(artifacts.list())
    for asked in killed:
        assert artifacts.find(asked) is None
        made = artifacts.create(asked, folder(), run={})
        assert artifacts.find(asked) == made
        assert {each.problem for each in artifacts.verify(made)} == {""}
    assert len(list(artifacts.list())) == len(killed) + len(done)


def test_after_a_killed_creation_another_content_may_answer(blobs, artifacts, folder):
    for asked in killed_creations(blobs, folder):
        made = artifacts.create(asked, folder({"result.json": b"other"}), run={})
        assert artifacts.open(artifacts.find(asked)).path("result.json").read_bytes() == b"other"
        assert {each.problem for each in artifacts.verify(made)} == {""}


def test_a_removed_artifact_is_made_again(blobs, artifacts, folder):
    removed = artifacts.create(request(), folder(), run={})
    for blob in [*blobs.list(f"artifacts/{removed}/")]:
        blobs.delete(blob.name)
    assert artifacts.find(request()) is None
    assert list(artifacts.list()) == []
    made = artifacts.create(request(), folder({"result.json": b"other"}), run={})
    assert artifacts.find(request()) == made != removed


@pytest.mark.parametrize("name", ["manifest.json", "run.json"])
def test_our_own_file_names_are_refused(artifacts, folder, name):
    with pytest.raises(InvalidInput, match=name):
        artifacts.create(request(), folder({name: b""}), run={})


def test_a_folder_in_the_folder_is_refused(artifacts, folder):
    out = folder()
    (out / "deep").mkdir()
    with pytest.raises(InvalidInput, match="deep"):
        artifacts.create(request(), out, run={})


@pytest.mark.parametrize("kind", [None, "plan", ("tokens", "plan")])
def test_an_artifact_of_the_expected_kind_is_opened(artifacts, folder, kind):
    made = artifacts.create(request("plan"), folder(), run={})
    assert artifacts.open(made, kind=kind).id == made


@pytest.mark.parametrize("kind", ["checkpoint", ("tokens", "checkpoint")])
def test_another_kind_is_refused_naming_both(artifacts, folder, kind):
    made = artifacts.create(request("plan"), folder(), run={})
    with pytest.raises(InvalidInput, match=r"expected kind .*checkpoint, got plan"):
        artifacts.open(made, kind=kind)


def test_an_absent_artifact_is_not_found(artifacts):
    for call in (artifacts.open, artifacts.lineage, artifacts.verify, artifacts.resolve):
        with pytest.raises(NotFound, match="ab" * 32):
            call("ab" * 32)


@pytest.mark.parametrize("malformed", ["", "abcdef", "../../etc", "AB" * 32, "g" * 64])
def test_a_malformed_id_is_refused(artifacts, malformed):
    with pytest.raises(InvalidInput, match="64 hexadecimal"):
        artifacts.open(malformed)


def test_a_file_the_artifact_has_not_is_not_found(artifacts, folder):
    artifact = artifacts.open(artifacts.create(request(), folder(), run={}))
    for absent in ("absent.json", "run.json", "../x"):
        with pytest.raises(NotFound, match=r"only: draws\.npy"):
            artifact.path(absent)


@IN_A_FOLDER
def test_a_damaged_file_is_corrupt_by_name_and_by_folder(blobs, artifacts, folder):
    artifact = artifacts.open(artifacts.create(request(), folder(), run={}))
    flip(blobs, f"artifacts/{artifact.id}/draws.npy")
    assert artifact.path("plan.json").read_bytes() == b"{}"
    for call in (lambda: artifact.path("draws.npy"), artifact.folder):
        with pytest.raises(Corrupt, match=f"{artifact.id}/draws.npy"):
            call()


def test_a_file_that_is_sound_but_not_the_manifests_is_corrupt(blobs, artifacts, folder):
    artifact = artifacts.open(artifacts.create(request(), folder(), run={}))
    blobs.delete(f"artifacts/{artifact.id}/draws.npy")
    with pytest.raises(Corrupt, match=r"draws.npy is missing"):
        artifact.path("draws.npy")
    blobs.create(f"artifacts/{artifact.id}/draws.npy", b"another")
    with pytest.raises(Corrupt, match=rf"{artifact.id} \(plan\): draws.npy: expected sha256"):
        artifact.path("draws.npy")


@IN_A_FOLDER
@pytest.mark.parametrize("size_bytes", [0, 100])
def test_a_truncated_manifest_is_corrupt(blobs, artifacts, folder, size_bytes):
    made = artifacts.create(request(), folder(), run={})
    name = f"artifacts/{made}/manifest.json"
    whole = blobs.read(name).data
    damage(blobs, name, whole[:size_bytes])
    with pytest.raises(Corrupt, match=made):
        artifacts.open(made)
    blobs.delete(name)
    blobs.create(name, whole[:size_bytes])  # truncated before a store without digests got it
    with pytest.raises(Corrupt, match=made):
        artifacts.open(made)


def test_a_newer_schema_is_refused_and_not_called_corrupt(blobs, artifacts):
    newer = plant(blobs, {"schema_version": 2, "something": "new"})
    with pytest.raises(InvalidInput, match="schema 2, newer than 1"):
        artifacts.open(newer)


def test_a_prefix_of_six_digits_resolves(artifacts, folder):
    made = artifacts.create(request(), folder(), run={})
    assert artifacts.resolve(made[:6]) == artifacts.resolve(made) == made


def test_a_prefix_of_several_ids_is_refused_naming_them(blobs, artifacts):
    for tail in ("0", "1"):
        blobs.create(f"artifacts/abcdef{tail * 58}/manifest.json", b"")
    with pytest.raises(InvalidInput, match="abcdef begins 2 ids, among them abcdef00"):
        artifacts.resolve("abcdef")
    assert artifacts.resolve("abcdef1") == "abcdef" + "1" * 58


def test_a_prefix_of_an_unfinished_artifact_is_not_found(blobs, artifacts):
    blobs.create(f"artifacts/{'ab' * 32}/result.json", b"")
    with pytest.raises(NotFound, match="ababab"):
        artifacts.resolve("ababab")


@pytest.mark.parametrize("prefix", ["", "abcde", "ABCDEF", "abcdeg", "a" * 65, "abc/.."])
def test_what_is_no_prefix_is_refused(artifacts, prefix):
    with pytest.raises(InvalidInput, match="6 to 64"):
        artifacts.resolve(prefix)


def test_the_list_is_newest_first_and_limited(artifacts, folder):
    kinds = ["plan", "tokens", "plan", "plan"]
    made = [artifacts.create(request(kind, n=n), folder(), run={}) for n, kind in enumerate(kinds)]
    assert [each.id for each in artifacts.list()] == made[::-1]
    assert [each.id for each in artifacts.list("plan", 2)] == [made[3], made[2]]
    assert [each.id for each in artifacts.list("tokens")] == [made[1]]
    assert list(artifacts.list("checkpoint")) == []


@IN_A_FOLDER
def test_a_damaged_artifact_hides_no_other(blobs, artifacts, folder):
    broken, sound = (artifacts.create(request("plan", n=n), folder(), run={}) for n in range(2))
    damage(blobs, f"artifacts/{broken}/manifest.json")
    assert [each.id for each in artifacts.list()] == [sound]


def test_lineage_is_breadth_first_and_names_each_once(artifacts, family):
    checkpoint, plan, tokens = family
    # Roles in order: corpus (the tokens), plan; the plan's tokens were met already.
    assert [each.id for each in artifacts.lineage(checkpoint)] == [checkpoint, tokens, plan]
    assert [each.id for each in artifacts.lineage(tokens)] == [tokens]


def test_verifying_sound_artifacts_finds_every_file_good(artifacts, family):
    checkpoint, plan, tokens = family
    assert list(artifacts.verify(checkpoint)) == [
        Finding(artifact_id, file, "")
        for artifact_id in (checkpoint, tokens, plan)
        for file in ("manifest.json", "data")
    ]


@IN_A_FOLDER
@pytest.mark.parametrize("member", [0, 1, 2], ids=["itself", "an input", "an input's input"])
def test_verifying_names_the_artifact_and_file_of_a_flipped_byte(blobs, artifacts, family, member):
    artifacts.open(family[member]).folder()  # what was found good before is not trusted
    flip(blobs, f"artifacts/{family[member]}/data")
    problems = [each for each in artifacts.verify(family[0]) if each.problem]
    assert [each[:2] for each in problems] == [(family[member], "data")]
    assert "expected sha256" in problems[0].problem


@IN_A_FOLDER
def test_verifying_reports_a_missing_and_a_truncated_file(blobs, artifacts, family):
    _, plan, tokens = family
    blobs.delete(f"artifacts/{plan}/data")
    damage(blobs, f"artifacts/{tokens}/data", b"tok")
    assert [each for each in artifacts.verify(plan) if each.problem] == [
        Finding(plan, "data", "it is missing"),
        Finding(tokens, "data", "expected 6 bytes, got 3"),
    ]


def test_verifying_reports_a_missing_manifest_and_goes_on(blobs, artifacts, family):
    checkpoint, plan, tokens = family
    blobs.delete(f"artifacts/{plan}/manifest.json")
    found = list(artifacts.verify(checkpoint))
    assert [each for each in found if each.problem] == [
        Finding(plan, "manifest.json", f"there is no artifact {plan}")
    ]
    assert Finding(tokens, "data", "") in found
    with pytest.raises(NotFound, match=plan):
        artifacts.lineage(checkpoint)


@IN_A_FOLDER
def test_verifying_reports_a_damaged_manifest(blobs, artifacts, family):
    flip(blobs, f"artifacts/{family[0]}/manifest.json")
    ((artifact_id, file, problem, _),) = artifacts.verify(family[0])
    assert (artifact_id, file) == (family[0], "manifest.json")
    assert "expected sha256" in problem
