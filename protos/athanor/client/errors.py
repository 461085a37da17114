"""The one error that clients of Athanor see; importable without grpc."""


class AthanorError(Exception):
    """A call failed; `kind` is one of Athanor's eight kinds, or `Internal`."""

    def __init__(self, kind: str, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after_s = retry_after_s

    @property
    def retryable(self) -> bool:
        """True if the same call may succeed later."""
        return self.kind in ("Busy", "Unavailable", "DeadlineExceeded")
