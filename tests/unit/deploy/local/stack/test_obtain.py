"""The cache: what is there is whole, whatever happened while it was made."""

from dataclasses import replace

import pytest

from deploy.local.stack import obtain as module
from deploy.local.stack.guard import Command, Guard
from deploy.local.stack.obtain import absent, obtain
from deploy.local.stack.servers import SERVERS
from libs.errors import Unavailable


def server(fill, *, name="minio", part="part"):
    return replace(SERVERS[name], parts={part: fill})


def whole(folder, guard, log):
    (folder / "program").write_text("#!")


def fails(folder, guard, log):
    (folder / "half").write_text("#!")
    raise Unavailable("the registry does not answer")


def endless(folder, guard, log):
    guard.run(Command(argv=("sleep", "60"), folder=folder), log=log, deadline_s=60)


def quiet(*_):
    pass


def test_a_part_is_made_once_and_then_there(tmp_path):
    told = []
    with Guard() as guard:
        obtain([server(whole)], tmp_path, guard, lambda *words: told.append(words))
        obtain([server(fails)], tmp_path, guard, quiet)
    assert (tmp_path / "part" / "program").exists()
    assert [name for name, _ in told] == ["minio", "minio"]
    assert absent([server(fails)], tmp_path) == []


def test_a_part_that_failed_is_not_there_and_is_made_anew(tmp_path):
    with Guard() as guard, pytest.raises(Unavailable, match="registry"):
        obtain([server(fails)], tmp_path, guard, quiet)
    assert absent([server(fails)], tmp_path) == ["part"]
    with Guard() as guard:
        obtain([server(whole)], tmp_path, guard, quiet)
    assert [path.name for path in (tmp_path / "part").iterdir()] == ["program"]


def test_one_that_fails_ends_the_others(tmp_path):
    slow = server(endless, name="kafka", part="slow")
    with Guard() as guard, pytest.raises(Unavailable, match="registry"):
        obtain([server(fails), slow], tmp_path, guard, quiet)
    assert absent([slow], tmp_path) == ["slow"]


@pytest.mark.parametrize(
    ("make", "remedy"),
    [
        (lambda *at: module.maven(*at), "expected the program mvn.*apt-get install maven"),
        (lambda *at: module.go_install("x", *at), "expected the program go.*install Go 1.26"),
        (lambda *at: module.debian("x", *at), "expected the program apt-get.*on the PATH"),
        (lambda *_: module.java(), "expected the program java.*apt-get install openjdk"),
    ],
)
def test_a_missing_tool_is_named_with_its_remedy(tmp_path, monkeypatch, make, remedy):
    with Guard() as guard:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(Unavailable, match=remedy):
            make(tmp_path, guard, tmp_path / "log")


def test_a_debian_package_without_lists_needs_root(tmp_path, monkeypatch):
    (tmp_path / "apt-get").write_text("#!/bin/sh\n")
    (tmp_path / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(module, "_LISTS", tmp_path)
    monkeypatch.setattr(module.os, "geteuid", lambda: 1000)
    with Guard() as guard, pytest.raises(Unavailable, match="as root: apt-get update"):
        module.debian("prometheus", tmp_path, guard, tmp_path / "log")
