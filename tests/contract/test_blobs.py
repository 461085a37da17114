"""What every object store must do, whatever stands behind it. Nothing here knows a path."""

import random
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from libs.errors import Conflict, InvalidInput, NotFound

NAME = "artifacts/ab12/model.safetensors"
LARGE_BYTES = 16 << 20
"""A store may send what is longer in parts."""
MALFORMED = [
    "",
    "bucket",
    "bucket/",
    "/bucket/key",
    "bucket//key",
    "bucket/key/",
    "bucket/..",
    "bucket/../key",
    "bucket/./key",
    "../bucket/key",
    ".versions/bucket/key",
    "bucket/key with space",
    "bucket/key\n",
    "bucket/k\\y",
    "bucket/@key",
    "bucket/ключ",
    "bucket/" + "k" * 256,
    "bucket" + "/k" * 520,
]
CALLS = {
    "create": lambda blobs, name: blobs.create(name, b""),
    "replace_if": lambda blobs, name: blobs.replace_if(name, b"", etag="0" * 64),
    "read": lambda blobs, name: blobs.read(name),
    "read_range": lambda blobs, name: blobs.read_range(name, 0, 1),
    "stat": lambda blobs, name: blobs.stat(name),
    "delete": lambda blobs, name: blobs.delete(name),
    "local": lambda blobs, name: blobs.local(name),
    "link": lambda blobs, name: blobs.link(name, expires_s=60),
}


def names(blobs, prefix):
    return [blob.name for blob in blobs.list(prefix)]


def together(count, act):
    """Call `act(0)` to `act(count - 1)` at the same moment; return what came, errors included."""
    start = threading.Barrier(count)

    def one(index):
        start.wait(timeout=30)
        try:
            return act(index)
        except Conflict as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


@pytest.mark.parametrize("content", [b"", b"weights", bytes(range(256)) * 30_000])
def test_what_is_created_is_read_back(blobs, content):
    created = blobs.create(NAME, content)
    assert blobs.read(NAME) == (content, created.etag)
    assert blobs.stat(NAME) == created == (NAME, len(content), created.etag)


def test_a_file_is_stored_as_it_was_when_it_was_created(blobs, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"first")
    blobs.create(NAME, source)
    source.write_bytes(b"other")
    assert blobs.read(NAME).data == b"first"
    assert source.read_bytes() == b"other"


def test_a_file_and_the_same_bytes_have_one_etag(blobs, tmp_path):
    (tmp_path / "source").write_bytes(b"weights")
    etag = blobs.create(NAME, tmp_path / "source").etag
    blobs.delete(NAME)
    assert blobs.create(NAME, b"weights").etag == etag


@pytest.mark.parametrize("size_bytes", [LARGE_BYTES - 1, LARGE_BYTES, LARGE_BYTES + 1])
def test_a_large_file_is_stored_and_fetched_whole(blobs, tmp_path, size_bytes):
    content = random.Random(0).randbytes(size_bytes)
    (tmp_path / "source").write_bytes(content)
    created = blobs.create(NAME, tmp_path / "source")
    assert blobs.stat(NAME) == created == (NAME, size_bytes, created.etag)
    assert blobs.local(NAME).read_bytes() == content
    assert blobs.read(NAME) == (content, created.etag)
    assert blobs.read_range(NAME, LARGE_BYTES - 9, 99) == content[LARGE_BYTES - 9 :]


def test_a_large_file_and_the_same_bytes_have_one_etag(blobs, tmp_path):
    (tmp_path / "source").write_bytes(bytes(LARGE_BYTES + 1))
    etag = blobs.create(NAME, tmp_path / "source").etag
    assert blobs.create("artifacts/other", bytes(LARGE_BYTES + 1)).etag == etag
    assert blobs.replace_if(NAME, bytes(LARGE_BYTES + 1), etag=etag).etag == etag


@pytest.mark.parametrize("content_of", [lambda i: b"%d" % i, lambda i: b"x"])
def test_of_racing_creators_of_large_blobs_one_leaves_its_bytes(blobs, content_of):
    outcomes = together(4, lambda i: blobs.create(NAME, content_of(i) * (LARGE_BYTES + 1)))
    winners = [i for i, outcome in enumerate(outcomes) if not isinstance(outcome, Conflict)]
    read = blobs.read(NAME)
    assert len(winners) == 1
    assert read == (content_of(winners[0]) * (LARGE_BYTES + 1), outcomes[winners[0]].etag)


def test_a_stale_etag_changes_no_large_blob(blobs):
    old = blobs.create(NAME, bytes(LARGE_BYTES + 1))
    blobs.replace_if(NAME, b"new", etag=old.etag)
    with pytest.raises(Conflict, match=NAME):
        blobs.replace_if(NAME, bytes(LARGE_BYTES + 2), etag=old.etag)
    assert blobs.read(NAME).data == b"new"


@pytest.mark.parametrize("content", [b"first", b"second"])
def test_a_taken_name_is_a_conflict_and_keeps_its_bytes(blobs, content):
    first = blobs.create(NAME, b"first")
    with pytest.raises(Conflict, match=NAME):
        blobs.create(NAME, content)
    assert blobs.read(NAME) == (b"first", first.etag)


@pytest.mark.parametrize("content_of", [lambda i: b"%d" % i * 9999, lambda i: b"the same"])
def test_of_sixteen_racing_creators_one_wins(blobs, content_of):
    outcomes = together(16, lambda index: blobs.create(NAME, content_of(index)))
    winners = [i for i, outcome in enumerate(outcomes) if not isinstance(outcome, Conflict)]
    assert len(winners) == 1
    assert blobs.read(NAME) == (content_of(winners[0]), outcomes[winners[0]].etag)


def test_a_blob_is_replaced_under_its_etag(blobs):
    old = blobs.create(NAME, b"old")
    new = blobs.replace_if(NAME, b"newer", etag=old.etag)
    assert new.etag != old.etag
    assert blobs.read(NAME) == (b"newer", new.etag)
    assert blobs.stat(NAME) == new == (NAME, 5, new.etag)


def test_a_blob_is_replaced_by_the_same_bytes(blobs):
    old = blobs.create(NAME, b"same")
    assert blobs.replace_if(NAME, b"same", etag=old.etag) == old
    assert blobs.read(NAME) == (b"same", old.etag)


def test_a_stale_etag_is_a_conflict_and_changes_nothing(blobs):
    old = blobs.create(NAME, b"old")
    new = blobs.replace_if(NAME, b"new", etag=old.etag)
    with pytest.raises(Conflict, match=NAME):
        blobs.replace_if(NAME, b"late", etag=old.etag)
    assert blobs.read(NAME) == (b"new", new.etag)


def test_replacing_what_is_absent_is_not_found_and_creates_nothing(blobs):
    etag = blobs.create("artifacts/other", b"x").etag
    with pytest.raises(NotFound, match=NAME):
        blobs.replace_if(NAME, b"x", etag=etag)
    assert names(blobs, "artifacts/") == ["artifacts/other"]


def test_etags_follow_the_content_through_a_b_a(blobs):
    first = blobs.create(NAME, b"A")
    second = blobs.replace_if(NAME, b"B", etag=first.etag)
    again = blobs.replace_if(NAME, b"A", etag=second.etag)
    assert again.etag == first.etag
    assert blobs.replace_if(NAME, b"C", etag=first.etag).etag not in (first.etag, second.etag)
    assert blobs.read(NAME).data == b"C"


def test_of_racing_replacers_none_is_lost(blobs):
    blobs.create(NAME, b"0")

    def increment(_):
        for _ in range(5):
            while True:
                data, etag = blobs.read(NAME)
                try:
                    blobs.replace_if(NAME, b"%d" % (int(data) + 1), etag=etag)
                    break
                except Conflict:
                    continue

    together(4, increment)
    assert blobs.read(NAME).data == b"20"


def test_a_reader_sees_whole_versions_only(blobs):
    versions = [bytes([digit]) * 50_000 for digit in b"ab"]
    etag = blobs.create(NAME, versions[0]).etag
    done = threading.Event()

    def read(_):
        seen = set()
        while not (seen and done.is_set()):
            seen |= {blobs.read(NAME).data, blobs.local(NAME).read_bytes()}
            assert blobs.read_range(NAME, 49_999, 9) in (b"a", b"b")
            assert names(blobs, "artifacts/") == [NAME]
        return seen

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read, each) for each in range(2)]
        for step in range(40):
            etag = blobs.replace_if(NAME, versions[(step + 1) % 2], etag=etag).etag
        done.set()
        assert set().union(*(reader.result(timeout=30) for reader in readers)) <= {*versions}


def test_a_range_is_cut_at_the_end(blobs):
    blobs.create(NAME, b"0123456789")
    ranges = [(0, 10), (3, 4), (8, 5), (10, 1), (99, 1), (4, 0)]
    assert [blobs.read_range(NAME, *each) for each in ranges] == [
        b"0123456789",
        b"3456",
        b"89",
        b"",
        b"",
        b"",
    ]


@pytest.mark.parametrize("start, size_bytes", [(-1, 5), (0, -1)])
def test_a_negative_range_is_refused(blobs, start, size_bytes):
    blobs.create(NAME, b"0123456789")
    with pytest.raises(InvalidInput):
        blobs.read_range(NAME, start, size_bytes)


def test_a_list_ascends_by_the_whole_name(blobs):
    keys = ["a-b", "a.b", "a/b", "a/b-c/d", "a/b.c", "a0", "a=b", "aB", "a_b", "ab"]
    for key in reversed(keys):
        blobs.create(f"bucket/{key}", key.encode())
    listed = list(blobs.list("bucket/"))
    assert [blob.name for blob in listed] == [f"bucket/{key}" for key in keys]
    assert listed == [blobs.stat(blob.name) for blob in listed]


def test_a_list_may_be_longer_than_a_store_tells_at_once(blobs):
    with ThreadPoolExecutor(4) as pool:
        created = [*pool.map(lambda n: blobs.create(f"bucket/{n:04}", b""), range(1001))]
    assert list(blobs.list("bucket/")) == created


@pytest.mark.parametrize(
    "prefix, expected",
    [
        ("one/", ["one/ab/x", "one/ab/y", "one/ac/x"]),
        ("one/a", ["one/ab/x", "one/ab/y", "one/ac/x"]),
        ("one/ab", ["one/ab/x", "one/ab/y"]),
        ("one/ab/", ["one/ab/x", "one/ab/y"]),
        ("one/ab/y", ["one/ab/y"]),
        ("one/ab/y/", []),
        ("one/b", []),
        ("none/", []),
    ],
)
def test_a_list_holds_what_begins_with_the_prefix(blobs, prefix, expected):
    for name in ("one/ab/x", "one/ab/y", "one/ac/x", "ones/ab/x", "two/ab/x"):
        blobs.create(name, b"")
    assert names(blobs, prefix) == expected


@pytest.mark.parametrize("prefix", ["", "bucket", "../", "bucket/../", "bucket//", ".temp/", "/"])
def test_a_prefix_begins_with_a_bucket_and_stays_in_it(blobs, prefix):
    with pytest.raises(InvalidInput, match="prefix"):
        list(blobs.list(prefix))


def test_a_deleted_blob_is_gone_and_its_name_free(blobs):
    blobs.create(NAME, b"old")
    blobs.delete(NAME)
    assert names(blobs, "artifacts/") == []
    with pytest.raises(NotFound):
        blobs.read(NAME)
    blobs.create(NAME, b"new")
    assert blobs.read(NAME).data == b"new"


def test_a_name_above_deleted_ones_is_free(blobs):
    blobs.create("bucket/a/b/c", b"")
    blobs.delete("bucket/a/b/c")
    blobs.create("bucket/a", b"")
    assert names(blobs, "bucket/") == ["bucket/a"]


def test_deleting_leaves_the_neighbours(blobs):
    for key in ("a", "ab", "b/c"):
        blobs.create(f"bucket/{key}", b"")
    blobs.delete("bucket/a")
    blobs.delete("bucket/b")
    blobs.delete("bucket/b/c/d")
    assert names(blobs, "bucket/") == ["bucket/ab", "bucket/b/c"]


def test_creating_beside_deleting_in_one_folder_succeeds(blobs):
    def come_and_go(index):
        for _ in range(25):
            blobs.create(f"bucket/deep/er/{index}", b"")
            blobs.delete(f"bucket/deep/er/{index}")

    assert together(4, come_and_go) == [None] * 4
    assert names(blobs, "bucket/") == []


def test_deleting_what_is_absent_does_nothing(blobs):
    blobs.delete(NAME)
    assert names(blobs, "artifacts/") == []


def test_local_files_of_one_prefix_lie_side_by_side_under_their_names(blobs):
    blobs.create("artifacts/ab12/config.json", b"{}")
    blobs.create("artifacts/ab12/model.bin", b"weights")
    config, model = map(blobs.local, ("artifacts/ab12/config.json", "artifacts/ab12/model.bin"))
    assert config.parent == model.parent
    assert (config.name, config.read_bytes()) == ("config.json", b"{}")
    assert (model.name, model.read_bytes()) == ("model.bin", b"weights")


def test_a_local_file_follows_the_blob(blobs):
    etag = blobs.create(NAME, b"old").etag
    blobs.local(NAME)
    blobs.replace_if(NAME, b"new", etag=etag)
    assert blobs.local(NAME).read_bytes() == b"new"


def test_a_link_leads_a_person_to_the_bytes(blobs):
    blobs.create("reports/page.html", b"<p>page</p>")
    link = blobs.link("reports/page.html", expires_s=60)
    url = link if "://" in link else Path(link).as_uri()
    with urllib.request.urlopen(url, timeout=30) as page:
        assert (page.read(), page.headers["Content-Type"]) == (b"<p>page</p>", "text/html")


@pytest.mark.parametrize("expires_s", [0, -1, 7 * 24 * 3600 + 1])
def test_a_link_works_from_a_second_to_a_week(blobs, expires_s):
    blobs.create("reports/page.html", b"<p>page</p>")
    with pytest.raises(InvalidInput, match=r"reports/page\.html"):
        blobs.link("reports/page.html", expires_s=expires_s)


@pytest.mark.parametrize("call", ["replace_if", "read", "read_range", "stat", "local", "link"])
@pytest.mark.parametrize("name", [NAME, "artifacts/ab12", "artifacts/ab12/config.json/x"])
def test_an_absent_name_is_not_found(blobs, call, name):
    blobs.create("artifacts/ab12/config.json", b"{}")
    with pytest.raises(NotFound, match=name):
        CALLS[call](blobs, name)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_name_is_refused(blobs, call, name):
    with pytest.raises(InvalidInput, match="name"):
        CALLS[call](blobs, name)


@pytest.mark.parametrize("name", ["b/k", "Bucket-1/a.b_c=d/0/..e", "b/.hidden", "b/" + "k" * 255])
def test_a_sound_name_is_accepted(blobs, name):
    blobs.create(name, b"x")
    assert names(blobs, name) == [name]
