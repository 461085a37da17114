"""What Prometheus is told: which processes to ask, what to compute, when to call a person.

`recording.yaml` and `alerts.yaml` are its rules; read `targets`.
"""
