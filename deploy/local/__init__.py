"""Athanor on one machine: the command line's local verbs, which start and stop processes.

Read in this order: `programs` (what runs), `cli` (the verbs), `demo` (the demonstration), `doctor`
(what this machine lacks; runs where no package is installed).
"""
