"""Language models held for inference: weights are named by digest, never by alias.

Read in this order: `port` (what callers see), `digest` and `scoring` (the arithmetic,
self-contained so that a foreign server can carry a copy), `host` (which models are held),
`servicer`, `client`.
"""
