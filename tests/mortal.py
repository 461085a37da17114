"""An object store that a process dies over, at any call that a test chooses."""

CHANGES = ("create", "replace_if", "delete")


class Killed(BaseException):
    """Stands for kill -9: nothing catches it."""


class Mortal:
    """A `Blobs` whose user dies before its `calls`-th of the `counted` calls; -1: never."""

    def __init__(self, blobs, calls=-1, *, counted=CHANGES):
        self._blobs, self._left, self._counted = blobs, calls, counted
        self.names = []
        """What those calls were about, in their order."""

    def __getattr__(self, call):
        def done(*args, **kwargs):
            if call in self._counted:
                if not self._left:
                    raise Killed
                self._left -= 1
                self.names.append(args[0])
            return getattr(self._blobs, call)(*args, **kwargs)

        return done
