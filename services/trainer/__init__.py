"""Trainer: makes weights, and says by which digest they are known.

Read in this order: `schedule` and `learning` (the idea), `certificate` (what may be learned),
`running` (a training as a process of its own), `worker` (the steps).
"""
