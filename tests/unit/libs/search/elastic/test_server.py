"""Which of our errors the server's are."""

import pytest

from libs.errors import Busy, Forbidden, InvalidInput, NotFound, Unavailable
from libs.search.elastic.server import Gone, Lost, Server, kind


@pytest.mark.parametrize(
    ("status", "type_", "expected"),
    [
        (400, "document_parsing_exception", InvalidInput),
        (403, "security_exception", Forbidden),
        (403, "cluster_block_exception", Busy),
        (404, "index_not_found_exception", Gone),
        (404, "search_context_missing_exception", Lost),
        (404, "aliases_not_found_exception", NotFound),
        (429, "es_rejected_execution_exception", Busy),
        (503, "search_phase_execution_exception", Lost),
        (503, "unavailable_shards_exception", Lost),
        (503, "master_not_discovered_exception", Lost),
        (500, "null_pointer_exception", Unavailable),
    ],
)
def test_an_error_of_the_server_is_one_of_ours(status, type_, expected):
    assert kind(status, type_) is expected


def test_an_error_says_what_was_asked_and_of_whom_without_a_password():
    server = Server("http://name:hidden@search:9200", deadline_s=1.0)
    error = server.error("add", 400, {"type": "document_parsing_exception", "reason": "odd"})
    assert str(error) == (
        "add: Elasticsearch at search:9200 says 400 document_parsing_exception: odd"
    )
