"""The object store: `port` (what it offers), `names` (how a blob is called), `folder` (adapter)."""
