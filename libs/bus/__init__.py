"""Events and work queues. Read `port.py`, then `consume.py`, `events.py`, and `sqlite.py` last."""
