"""The rendered site is the same everywhere and tells nothing about the machine."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.demo import render

ROOT = Path(__file__).parents[4]
SECRET = "planted-secret-9f31"


def rendered(folder: Path, **env: str) -> dict[str, bytes]:
    code = "import sys, pathlib, deploy.demo.render as r; r.render(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, env=env, check=True)
    return {page.name: page.read_bytes() for page in folder.glob("*.html")}


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], dict[str, bytes]]:
    first = rendered(tmp_path_factory.mktemp("first"), PYTHONHASHSEED="1", TOKEN=SECRET)
    second = rendered(tmp_path_factory.mktemp("second"), LANG="C", HOME=f"/{SECRET}")
    return first, second


def test_two_environments_render_the_same_bytes(sites):
    first, second = sites
    assert len(first) > 400
    assert first == second


def test_no_page_holds_a_secret_an_address_or_a_path_of_this_machine(sites):
    text = b"\n".join(sites[0].values())
    assert SECRET.encode() not in text
    assert not re.search(rb"at 0x[0-9a-f]{6}", text)
    assert sys.prefix.encode() not in text
    assert sys.base_prefix.encode() not in text


def test_every_page_has_a_chapter(tmp_path):
    (tmp_path / "json.html").touch()
    (tmp_path / "topic-for.html").touch()
    assert render.topics(tmp_path) == {
        "json.html": "internet",
        "topic-for.html": "language reference",
    }
