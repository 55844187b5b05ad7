"""What can go wrong: the daemon refused, nobody answered, a request was not granted, or a lease is lost."""

from typing import Any, Dict, List, Optional


class GpuoError(Exception):
    """All errors of this package."""


class ApiError(GpuoError):
    """The daemon's refusal. `code` is stable: it is what programs decide by."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        errors: Optional[List[Dict[str, Any]]] = None,
        retry_after: Optional[float] = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.errors = errors or []
        #: In seconds, when asking again may help.
        self.retry_after = retry_after


class Unreachable(GpuoError):
    """No answer came. Whether the daemon has done what it was asked is not known, unless `refused`."""

    def __init__(self, message: str, refused: bool = False) -> None:
        super().__init__(message)
        #: Nobody listens there: the call did not arrive anywhere.
        self.refused = refused


class NotGranted(GpuoError):
    """A request that ended without having been granted; `reason` is the record's `end_reason`."""

    def __init__(self, allocation_id: Optional[str], reason: str, detail: str) -> None:
        super().__init__(detail)
        self.allocation_id = allocation_id
        self.reason = reason


class LeaseLost(GpuoError):
    """The GPUs may be somebody else's from now on: stop using them.

    `reason` is the record's `end_reason`, or `silence`: no renewal was confirmed in time.
    """

    def __init__(self, allocation_id: str, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.allocation_id = allocation_id
        self.reason = reason
