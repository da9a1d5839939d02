"""The errors of the library. The text names the value found, the value wanted and what to do."""


class Error(RuntimeError):
    """Whatever the library raises is one of these."""


class InvalidArgument(Error, ValueError):
    """A mistake of the caller: an argument, a recipe or a combination that cannot work."""


class NotFound(Error, FileNotFoundError):
    """A file, tensor or name that should exist does not."""


class Timeout(Error, TimeoutError):
    """A bounded wait ended. The text names whom or what was waited for."""


class Unavailable(Error):
    """A peer or resource is gone: a dead rank, a full disk, a closed connection."""


class PeerFailure(Unavailable):
    """Another rank failed first and told us. That rank reports the cause."""


class DataCorruption(Error):
    """Bytes that cannot be what they claim to be: cut, altered or of another format."""


class PermissionDenied(Error, PermissionError):
    """The operating system refuses."""


class Internal(Error):
    """A mistake of the library."""
