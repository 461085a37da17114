"""Corpus: decides which documents there are.

Read in this order: `crawl` (what to fetch next), `crawler` and `journal` (doing it, resumably),
`adapters` (the web, bounded), `extract`, `passages` and `records` (pages to tables), `index` and
`decontaminate` (what may be searched), `queries`, `collect`, `fusion`, `quality`, `dedup` and
`unindexed` (what is collected for weak topics), `forget` and `forgetting` (what is taken out),
`report`, `worker` and `servicer` (the wire), `app` (the wiring).
"""
