"""Long calls: one record each, one worker at a time, one visible effect.

Read `record.py` (what is stored), `step.py` (what a service writes), `store.py` (submit, watch,
cancel), `lease.py` (who may write), `attempt.py` and `worker.py` (how a command becomes a result),
`servicer.py` (gRPC).
"""
