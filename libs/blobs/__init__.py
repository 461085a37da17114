"""The object store: `port` (what it offers), `names` (how a blob is called), two adapters.

`folder` is the embedded one. `minio` is the real one, over `s3` (requests), `s3_errors`, `parts`,
`upload`, `download` and `cache` (local copies).
"""
