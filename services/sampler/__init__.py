"""Sampler: decides in which order, and how often, the trainer sees which text.

Read in this order: `clip` (how much of each cluster), `schedule` (in which order), `plan` (both,
with replay), `stream` (packed sequences from any position), `tokens`, `embed` and `cluster` (what
they work on), `report` (what a person sees), `worker` and `servicer` (the wire), `app` (the
wiring).
"""
