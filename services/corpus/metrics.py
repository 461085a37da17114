"""Every metric that the corpus emits, beside those that all services have."""

from prometheus_client import Counter, Histogram

PAGES_FETCHED = Counter("corpus_pages_fetched_total", "Pages fetched and read by crawls.")
REFUSALS = Counter(
    "corpus_refusals_total", "Addresses, files and passages refused, by reason.", ["reason"]
)
PASSAGES_INDEXED = Counter("corpus_passages_indexed_total", "Passages added to a search index.")
QUERIES_ANSWERED = Counter("corpus_queries_answered_total", "Queries answered, by whom.", ["by"])
SEARCH_LATENCY = Histogram(
    "corpus_search_latency_seconds",
    "One call of Search, all its queries, seconds.",
    buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10),
)
