"""A folder as a source."""

import pytest

from libs.errors import NotFound
from services.corpus.folder import read_folder
from services.corpus.refusals import Reason

from .conftest import prose


def test_text_and_markdown_are_read_by_name_and_hidden_files_are_not(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / "sub" / "two words.md").write_text(f"# Two\n\n{prose(2)}")
    (tmp_path / "one.txt").write_bytes("Ünes\n".encode("utf-16"))
    for skipped in (".hidden.txt", ".git/config.txt", "image.png"):
        (tmp_path / skipped).write_text(prose(3))
    reported = []
    documents, refusals = read_folder(tmp_path, lambda *each: reported.append(each))
    assert [(each.url, each.title) for each in documents] == [
        ("folder:one.txt", "Ünes"),
        ("folder:sub/two%20words.md", "Two"),
    ]
    assert refusals == []
    assert reported == [(1, 2), (2, 2)]


def test_what_is_no_text_is_refused_by_name(tmp_path):
    (tmp_path / "a.txt").write_bytes(bytes(500))
    (tmp_path / "b.md").write_text("")
    assert {(each.id, each.reason) for each in read_folder(tmp_path, lambda *_: None)[1]} == {
        ("folder:a.txt", Reason.UNDECODABLE),
        ("folder:b.md", Reason.EMPTY),
    }


def test_a_link_out_of_the_folder_is_not_followed(tmp_path):
    (tmp_path / "secret.txt").write_text(prose(1))
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(NotFound, match="no file"):
        read_folder(inside, lambda *_: None)


def test_a_folder_that_is_not_there_is_not_found(tmp_path):
    with pytest.raises(NotFound, match="no folder"):
        read_folder(tmp_path / "absent", lambda *_: None)
