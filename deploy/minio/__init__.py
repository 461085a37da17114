"""Rights on the object store: `rights` (who may do what), `server` (plan and apply), `__main__`."""
