"""The demonstration's site answers as real sites do, oddities included."""

import threading
from collections.abc import Iterator

import httpx
import pytest

from deploy.demo import site


@pytest.fixture
def address(tmp_path) -> Iterator[str]:
    for name in ("index", "json", "gzip"):
        (tmp_path / f"{name}.html").write_text(f"<p>page {name}</p>")
    server = site.server(tmp_path, 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_the_oddities_are_there(address):
    def get(path: str) -> httpx.Response:
        return httpx.get(address + path)

    assert "Disallow: /private/" in get("/robots.txt").text
    assert f"<loc>{address}/json.html</loc>" in get("/sitemap.xml").text
    assert get("/moved").headers["location"] == "/index.html"
    assert get("/json-copy.html").text == get("/json.html").text
    assert get("/missing.html").status_code == 404
    assert "Caf\xe9" in get("/latin.html").text
    assert get("/packed.html").headers["content-encoding"] == "gzip"
    assert get("/packed.html").text == "<p>page gzip</p>"


def test_nothing_outside_the_folder_is_served(address):
    assert httpx.get(address + "/../../etc/passwd").status_code == 404
