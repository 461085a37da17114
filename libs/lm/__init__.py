"""Language models held for inference: weights are named by digest, never by alias.

Read in this order: `port` and `prompts` (what callers see), then the arithmetic, self-contained so
that a foreign server can carry a copy (`arithmetic` lists it): `digest`, `forward`, `scoring`,
`generation` with `detokenize`, `states`; then `turns` (who computes when), `host` (which models are
held), `wire`, `servicer`, `pieces`, `client`.
"""
