"""Loop: decides what to do next, and whether to promote.

Read in this order: `recipe` and `binding` (what a round is to do), `schedule` (what comes next),
`drive` and `rounds` (doing it, and going on after a kill), `outcome`, `wear` and `registry` (what
becomes of the candidate), `serving` and `keeper` (what users are shown), `roots`, `garbage` and
`collection` (what is deleted), `report`, then `worker`, `servicer` and `app` (the wiring).
"""
