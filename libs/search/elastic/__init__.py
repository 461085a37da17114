"""What stands behind `libs.search.elasticsearch`: `server` (the client and its errors), `names`,
`documents` (what is stored), `bulk` (writes), `versions` (which index a name means), `snapshot`
(statistics and proposals of one moment).
"""
