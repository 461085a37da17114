"""Full-text search: `port` (what callers see), `rank` (the score), `exact` (proposals made exact),
`names`; the embedded engine: `tantivy`, `ledger` (what exactness needs stored); the cluster's:
`elasticsearch`, before the folder `elastic`.
"""
