"""What a crawl finds of an earlier attempt."""

from services.corpus.crawl import Outcome, Visit
from services.corpus.extract import Page
from services.corpus.journal import Journal
from services.corpus.refusals import Reason
from services.corpus.robots import Site

PAGE = Page("Title", "text \ufffd 深", ("http://e/a",))
VISITS = [
    Visit(url="http://e/", outcome=Outcome.PAGE, links=("http://e/a", "http://e/b")),
    Visit(url="http://e/a", outcome=Outcome.REDIRECT, location="http://e/c"),
    Visit(url="http://e/b", outcome=Outcome.REFUSED, reason="not_found", detail="answered 404"),
]
SITES = [
    Site("http://e", text="User-agent: *", listed=("http://e/x",)),
    Site("http://f", barred=Reason.ROBOTS, detail="robots.txt answered 500"),
]


def write(folder) -> None:
    journal = Journal(folder)
    for site in SITES:
        journal.add_site(site)
    journal.add(VISITS[0], PAGE)
    for visit in VISITS[1:]:
        journal.add(visit)
    journal.close()


def read(folder) -> Journal:
    journal = Journal(folder)
    journal.close()
    return journal


def test_everything_comes_back(tmp_path):
    write(tmp_path)
    journal = read(tmp_path)
    assert list(journal.visits.values()) == VISITS
    assert list(journal.sites.values()) == SITES
    assert journal.page("http://e/") == PAGE._replace(links=())


def test_a_line_cut_by_a_kill_is_dropped_and_written_over(tmp_path):
    write(tmp_path)
    path = tmp_path / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    assert list(read(tmp_path).visits.values()) == VISITS[:2]
    journal = Journal(tmp_path)
    journal.add(VISITS[2])
    journal.close()
    assert list(read(tmp_path).visits.values()) == VISITS


def test_an_empty_folder_is_a_new_crawl(tmp_path):
    journal = read(tmp_path)
    assert (journal.visits, journal.sites) == ({}, {})
