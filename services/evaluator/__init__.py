"""Evaluator: decides what a model can do, with error bars.

Read in this order: `items` (what is asked), `unrepeated` (which passages may be asked about),
`build_items` and `import_items` (where items come from), `score` and `sitting` (how a model
answers), `intervals` (the error bars), `weak` and `power` (what to aim at, and whether it can be
shown), `diagnose` and `compare` (what a round is steered and decided by), `exams` (the registry),
`worker` (the steps).
"""
