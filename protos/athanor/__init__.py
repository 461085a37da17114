"""Contracts of Athanor: generated messages and stubs, and `athanor.client`."""
