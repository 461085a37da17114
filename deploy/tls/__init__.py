"""Certificates of one installation: a local authority, and one identity for each service.

Read `folder`, `authority`; `python -m deploy.tls make FOLDER` is the command.
"""
