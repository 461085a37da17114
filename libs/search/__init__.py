"""Full-text search: `port` (what callers see), `rank` (the score), `exact` (proposals made exact),
`ledger` (what exactness needs stored), `tantivy` (the embedded engine).
"""
