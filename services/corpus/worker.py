"""Commands in, artifacts out: crawl, read a folder, index, collect, forget."""

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from athanor.corpus.v1 import corpus_pb2, events_pb2

from libs.artifacts import Artifact, Artifacts
from libs.blocks import write_blocks
from libs.bus.events import publish
from libs.bus.port import Bus
from libs.errors import InvalidInput, NotFound
from libs.formats import (
    EXAM_TEXTS,
    HITS,
    HOLDOUT,
    PASSAGES,
    QUERIES,
    REFUSALS,
    read_rows,
    write_json,
    write_table,
)
from libs.operations.record import Result
from libs.operations.step import Made, Step, Work
from services.corpus import folder, metrics, report
from services.corpus.addresses import canonical, origin, topic_of
from services.corpus.collect import Limits, ask, sift
from services.corpus.crawl import Outcome, Scope
from services.corpus.crawler import Crawler
from services.corpus.decontaminate import Exams
from services.corpus.forgetting import Forgetting, document_of
from services.corpus.index import Kept, index
from services.corpus.journal import Journal
from services.corpus.passages import DEFAULT_MAX_WORDS, DEFAULT_MIN_WORDS, Lengths
from services.corpus.ports import Fetchers
from services.corpus.queries import seeds
from services.corpus.records import Document, Reading, Row, reading, write_refusals
from services.corpus.refusals import Reason, Refusal, counted
from services.corpus.shelf import Shelf
from services.corpus.topics import DOCUMENTS_READ, PASSAGES_COLLECTED
from services.corpus.unindexed import missed

STARVED = "starved"
_DEFAULT_RATE_PER_S = 1.0
_DEFAULT_PAGE_BYTES = 8 << 20
_DEFAULT_TIMEOUT_S = 20.0
_MAX_RATE_PER_S = 1000.0


def steps(
    bus: Bus, *, fetchers: Fetchers, shelf: Shelf, forgetting: Forgetting
) -> tuple[Step, ...]:
    """Return the long calls of the corpus; what they made is announced on `bus`."""
    announce_documents = partial(_announce_documents, bus)
    return (
        Step(
            method="Crawl",
            request=corpus_pb2.CrawlRequest,
            kind="documents",
            version=2,
            run=partial(crawl, fetchers),
            check=check_crawl,
            announce=announce_documents,
        ),
        Step(
            method="ReadFolder",
            request=corpus_pb2.ReadFolderRequest,
            kind="documents",
            version=1,
            run=read_folder,
            check=check_folder,
            announce=announce_documents,
        ),
        Step(
            method="Index",
            request=corpus_pb2.IndexRequest,
            kind="passages",
            version=1,
            run=index_documents,
        ),
        Step(
            method="Collect",
            request=corpus_pb2.CollectRequest,
            kind="passages",
            version=3,
            run=partial(collect, shelf),
            check=check_collect,
            announce=partial(_announce_passages, bus),
        ),
        Step(
            method="ForgetDocument",
            request=corpus_pb2.ForgetDocumentRequest,
            kind="tombstone",
            version=1,
            run=partial(forget, forgetting),
        ),
    )


# Crawl.


def check_crawl(request: corpus_pb2.CrawlRequest) -> Sequence[str]:
    """Refuse what no site could satisfy; say how many pages from where, and how long at least."""
    scope, _ = _scope(request), _lengths(request)
    rate = request.rate_per_s or _DEFAULT_RATE_PER_S
    if not 0 < rate <= _MAX_RATE_PER_S:
        raise InvalidInput(f"rate_per_s must lie in (0, {_MAX_RATE_PER_S:g}], got {rate:g}")
    if request.fetch_timeout_s < 0:
        raise InvalidInput(f"fetch_timeout_s must not be negative, got {request.fetch_timeout_s:g}")
    origins = sorted({origin(seed) for seed in scope.seeds})
    seconds = scope.max_pages / rate / len(origins)
    return [
        f"fetches at most {scope.max_pages} pages from {', '.join(origins)}",
        f"takes {seconds:.0f} s at least for that many, at {rate:g} requests per second",
    ]


def crawl(fetchers: Fetchers, request: corpus_pb2.CrawlRequest, work: Work) -> Made:
    """Crawl into documents; a second attempt fetches nothing that the first one has.

    Raises:
        NotFound: no page could be read, with the reasons.
    """
    started = time.perf_counter()
    scope, lengths = _scope(request), _lengths(request)
    journal = Journal(work.scratch)
    known = len(journal.visits)
    fetcher = fetchers(
        max_bytes=request.max_page_bytes or _DEFAULT_PAGE_BYTES,
        timeout_s=request.fetch_timeout_s or _DEFAULT_TIMEOUT_S,
        allow_private_hosts=request.allow_private_hosts,
    )
    try:
        with fetcher as fetch:
            rate = request.rate_per_s or _DEFAULT_RATE_PER_S
            crawler = Crawler(scope=scope, fetcher=fetch, journal=journal, rate_per_s=rate)
            refused = crawler.run(
                lambda done, total: work.progress(done, total, "pages", "crawling")
            )
        fetched_s = time.perf_counter() - started
        documents, more = _documents(journal, scope, request.topics_by_path)
    finally:
        journal.close()
    metrics.PAGES_FETCHED.inc(len(journal.visits) - known)
    work.progress(len(journal.visits), len(journal.visits), "pages", "cutting into passages")
    found = reading(documents, [*refused.values(), *more], lengths)
    measured = {
        "fetch_seconds": fetched_s,
        "pages_per_second": (len(journal.visits) - known) / fetched_s,
        "seconds": time.perf_counter() - started,
    }
    return _made(found, work, measured, "no page could be read")


def _scope(request: corpus_pb2.CrawlRequest) -> Scope:
    found = [canonical(seed) for seed in request.seeds]
    for given, seed in zip(request.seeds, found, strict=True):
        if seed is None:
            raise InvalidInput(f"a seed must be an http or https address, got {given!r}")
    if request.max_pages < 1:
        raise InvalidInput(f"max_pages must be at least 1, got {request.max_pages}")
    return Scope(
        seeds=[seed for seed in found if seed],
        max_pages=request.max_pages,
        max_depth=request.max_depth,
    )


def _lengths(request: corpus_pb2.CrawlRequest | corpus_pb2.ReadFolderRequest) -> Lengths:
    return Lengths(
        min_words=request.passage_min_words or DEFAULT_MIN_WORDS,
        max_words=request.passage_max_words or DEFAULT_MAX_WORDS,
    )


def _documents(
    journal: Journal, scope: Scope, topics: Mapping[str, str]
) -> tuple[list[Document], list[Refusal]]:
    """Return the pages of a crawl that ended, and the addresses that gave none."""
    documents, refusals = [], []
    for visit in journal.visits.values():
        url = visit.url
        if visit.outcome is Outcome.REFUSED:
            refusals.append(Refusal(url, Reason(visit.reason), visit.detail))
        if visit.outcome is not Outcome.PAGE:
            continue
        page = journal.page(visit.url)
        if page.forbidden:
            refusals.append(Refusal(url, Reason.ROBOTS, "the page asks not to be indexed"))
            continue
        topic = topic_of(url, topics)
        documents.append(
            Document(url=url, title=page.title, text=page.text, source="crawl", topic=topic)
        )
    return documents, refusals


# Folder.


def check_folder(request: corpus_pb2.ReadFolderRequest) -> Sequence[str]:
    """Raise `NotFound` unless the folder is there."""
    _lengths(request)
    folder.check(Path(request.path))
    return ()


def read_folder(request: corpus_pb2.ReadFolderRequest, work: Work) -> Made:
    """Read a folder into documents. Raises `NotFound` when no file of it could be read."""
    started = time.perf_counter()
    documents, refusals = folder.read_folder(
        Path(request.path), lambda done, total: work.progress(done, total, "files", "reading")
    )
    found = reading(documents, refusals, _lengths(request))
    measured = {"seconds": time.perf_counter() - started}
    return _made(found, work, measured, "no file could be read")


def _made(found: Reading, work: Work, measured: Mapping[str, float], none: str) -> Made:
    """Write an artifact of kind `documents`. Raises `NotFound` when there are none."""
    _count(found.refusals)
    if not found.documents:
        raise NotFound(f"{none}: {_why(found.refusals)}")
    found.write(work.out)
    write_blocks(work.out, report.reading_blocks(found))
    figures = {
        "num_documents": len(found.documents),
        "num_passages": len(found.passages),
        "num_refused": len(found.refusals),
    }
    return Made(figures=figures, measured=measured)


def _why(refusals: Sequence[Refusal]) -> str:
    if not refusals:
        return "nothing was there"
    first = refusals[0]
    counts = ", ".join(f"{number} {reason}" for reason, number in counted(refusals).items())
    return f"{counts}; the first is {first.id}: {first.detail}"


# Index.


def index_documents(request: corpus_pb2.IndexRequest, work: Work) -> Made:
    """Take held-out and contaminated passages out, and certify what is left."""
    started = time.perf_counter()
    documents = work.artifacts.open(request.documents_id, kind="documents")
    exam_set = work.artifacts.open(request.exam_set_id, kind="exam_set")
    exams = _exams(exam_set)
    held_out = {row["passage_id"] for row in read_rows(exam_set.path("holdout.parquet"), HOLDOUT)}
    kept = index(
        read_rows(documents.path("passages.parquet"), PASSAGES),
        held_out,
        exams,
        lambda done, total: work.progress(done, total, "passages", "checking against exams"),
    )
    _write(kept, exams, request.exam_set_id, work)
    write_blocks(work.out, report.index_blocks(kept, exams.num_items))
    figures = {
        "num_passages": len(kept.rows),
        "num_words": kept.num_words,
        "num_held_out": kept.num_refused(Reason.HELD_OUT),
        "num_contaminated": kept.num_refused(Reason.CONTAMINATED),
    }
    return Made(figures=figures, measured={"seconds": time.perf_counter() - started})


def _exams(exam_set: Artifact) -> Exams:
    return Exams(read_rows(exam_set.path("exam_texts.parquet"), EXAM_TEXTS))


def _write(kept: Kept, exams: Exams, exam_set_id: str, work: Work) -> None:
    """Write the files that every artifact of kind `passages` has."""
    _count(kept.refusals)
    write_table(work.out / "passages.parquet", PASSAGES, kept.rows)
    write_refusals(work.out, kept.refusals)
    num_dropped = kept.num_refused(Reason.HELD_OUT, Reason.CONTAMINATED)
    ids = (row["passage_id"] for row in kept.rows)
    exams.certificate(exam_set_id, ids, num_dropped=num_dropped).write(work.out)


def _count(refusals: Iterable[Refusal]) -> None:
    for reason, number in counted(refusals).items():
        metrics.REFUSALS.labels(reason).inc(number)


# Collect.


def check_collect(request: corpus_pb2.CollectRequest) -> Sequence[str]:
    """Refuse figures outside of their ranges."""
    _limits(request)
    return ()


def _limits(request: corpus_pb2.CollectRequest) -> Limits:
    given = {
        "rounds": request.rounds,
        "top_k": request.top_k,
        "max_passages": request.max_passages,
        "max_contaminated_share": request.max_contaminated_share,
    }
    return Limits(**{name: value for name, value in given.items() if value})  # type: ignore[arg-type]


def collect(shelf: Shelf, request: corpus_pb2.CollectRequest, work: Work) -> Made:
    """Collect passages for the diagnosis' topics; too few words is the outcome `starved`.

    Raises:
        InvalidInput: the diagnosis has no seeds, or the exam lies in the corpus.
    """
    started = time.perf_counter()
    limits = _limits(request)
    work.progress(0, 0, "queries", "opening the index")
    indexed = work.artifacts.open(request.passages_id, kind="passages")
    opened = shelf.open(indexed)
    opened_s = time.perf_counter() - started
    diagnosis = work.artifacts.open(request.diagnosis_id, kind="diagnosis")
    first = seeds(read_rows(diagnosis.path("seeds.parquet"), QUERIES))
    if not first:
        raise InvalidInput(f"diagnosis {request.diagnosis_id} has no seeds to collect for")
    exams = _exams(work.artifacts.open(request.exam_set_id, kind="exam_set"))
    asked = ask(first, opened.passages, opened.index, limits, partial(_tell, work))
    metrics.QUERIES_ANSWERED.labels("collect").inc(len(asked.queries))
    work.progress(len(asked.queries), len(asked.queries), "queries", "sifting what was found")
    left_out = _left_out(indexed, work.artifacts)
    lost = missed(asked, left_out, opened.passages.values(), top_k=limits.top_k)
    kept = sift(asked, opened.passages, exams, limits, missed=lost)
    _write(kept, exams, request.exam_set_id, work)
    query_rows = sorted((query.row() for query in asked.queries), key=lambda r: r["query_id"])
    write_table(work.out / "queries.parquet", QUERIES, query_rows)
    write_table(work.out / "hits.parquet", HITS, asked.hit_rows())
    write_blocks(work.out, report.collect_blocks(asked, kept, opened.passages))
    measured = {"open_seconds": opened_s, "seconds": time.perf_counter() - started}
    figures = {
        "num_queries": len(asked.queries),
        "num_passages": len(kept.rows),
        "num_words": kept.num_words,
        "num_contaminated": kept.num_refused(Reason.CONTAMINATED),
    }
    reason = _starved(kept, request.min_words)
    outcome = STARVED if reason else ""
    return Made(outcome=outcome, reason=reason, figures=figures, measured=measured)


def _left_out(indexed: Artifact, artifacts: Artifacts) -> Sequence[Row]:
    """Return the passages of the documents that `Index` left out because of an exam."""
    documents_id = indexed.manifest.inputs.get("documents")
    if documents_id is None:  # made by `Collect`
        return ()
    refusals = read_rows(indexed.path("refusals.parquet"), REFUSALS)
    ids = {row["id"] for row in refusals if row["reason"] == Reason.CONTAMINATED}
    documents = artifacts.open(documents_id, kind="documents")
    rows = read_rows(documents.path("passages.parquet"), PASSAGES) if ids else []
    return [row for row in rows if row["passage_id"] in ids]


def _tell(work: Work, before: int, in_round: int) -> None:
    work.progress(before + in_round, 0, "queries", "asking")


def _starved(kept: Kept, min_words: int) -> str:
    """Return why there is too little to go on with, or nothing."""
    if kept.num_words >= max(min_words, 1):
        return ""
    return (
        f"{kept.num_words:,} words were found in {len(kept.rows):,} passages,"
        f" {max(min_words, 1):,} are needed."
    )


# Forget.


def forget(forgetting: Forgetting, request: corpus_pb2.ForgetDocumentRequest, work: Work) -> Made:
    """Forget a document. Raises `NotFound` when nothing holds it."""
    tombstone = forgetting.forget(request.document, work)
    write_json(work.out / "tombstone.json", document_of(tombstone))
    held_by = {f"num_{kind}s": len(ids) for kind, ids in tombstone.held_by.items()}
    return Made(figures={"num_replaced": len(tombstone.replaced), **held_by})


# Events.


def _announce_documents(bus: Bus, artifact: Artifact, result: Result) -> None:
    refusals = read_rows(artifact.path("refusals.parquet"), REFUSALS)
    counts = counted(Refusal(row["id"], Reason(row["reason"])) for row in refusals)
    event = events_pb2.DocumentsRead(
        artifact_id=artifact.id,
        num_documents=int(result.figures["num_documents"]),
        num_refused_by_reason=counts,
    )
    publish(bus, DOCUMENTS_READ.name, artifact.id, event, source="corpus")


def _announce_passages(bus: Bus, artifact: Artifact, result: Result) -> None:
    event = events_pb2.PassagesCollected(
        artifact_id=artifact.id,
        num_passages=int(result.figures["num_passages"]),
        num_contaminated=int(result.figures["num_contaminated"]),
    )
    publish(bus, PASSAGES_COLLECTED.name, artifact.id, event, source="corpus")
