"""Leases that are kept for as long as a block runs.

1. Time is measured by the monotonic clock, from when a renewal was sent: the daemon counts from when it came, which is
   later. So a lease counts as lost before the daemon can grant its GPUs to somebody else.
2. A daemon on this host that refuses connections is down, and grants nothing: that alone ends no lease.
3. The first thing after a pause of the process (SIGSTOP) is to look at the clock, not to renew.
4. A forked child holds nothing: it neither renews nor releases what its parent leased.
"""

import asyncio
import atexit
import contextlib
import functools
import getpass
import inspect
import os
import re
import signal
import sys
import threading
import time
import uuid
import weakref
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Union

from ._client import Client, is_passing
from ._errors import ApiError, LeaseLost, NotGranted, Unreachable

DEFAULT_TTL = 120
RENEWALS_PER_TTL = 3
RETRY = 1.0
#: How early before the end of what is certain a lease counts as lost: a part of the TTL, and no more than this.
LONGEST_MARGIN, MARGIN_PARTS = 5.0, 10.0
LONG_POLL = 30.0
#: How soon a wait is given up when its task is cancelled.
SHORT_POLL = 2.0
ENDED = frozenset(["allocation-ended", "allocation-not-found", "fencing-token-mismatch", "not-owner"])

_held: "weakref.WeakSet[Lease]" = weakref.WeakSet()


class Device(NamedTuple):
    """One GPU, or MIG instance, of a lease."""

    #: As nvidia-smi counts; of a MIG instance, its GPU's.
    index: int
    uuid: str
    name: str
    #: In MiB.
    memory: Optional[int]
    #: As a program that was started with `CUDA_VISIBLE_DEVICES` of the lease sees it: `cuda:0` and so on.
    cuda: str


class Lease:
    """GPUs that are held, and renewed by a thread of their own until they are released."""

    def __init__(
        self,
        client: Client,
        record: Mapping[str, Any],
        held_at: float,
        on_lost: Optional[Callable[[LeaseLost], Any]] = None,
    ) -> None:
        self.id: str = record["id"]
        self.record: Dict[str, Any] = dict(record)
        self._client = client
        self._ttl: Optional[float] = record.get("ttl_seconds")
        self._certain_until = float("inf") if self._ttl is None else held_at + self._ttl
        self._is_down = False
        self._lost: Optional[LeaseLost] = None
        self._on_lost = on_lost
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._owner = os.getpid()
        self._environment: List[Any] = []
        _held.add(self)
        if self._ttl is not None:
            name = f"gpuo-renewal-{self.id}"
            threading.Thread(target=_renewing, args=(weakref.ref(self), self._released), name=name, daemon=True).start()

    @property
    def uuids(self) -> List[str]:
        return list(self.record["gpu_uuids"])

    @property
    def indices(self) -> List[int]:
        return list(self.record["gpu_ids"])

    @property
    def devices(self) -> List[Device]:
        return [
            Device(one["index"], one["uuid"], one["name"], one["memory_total"], f"cuda:{place}")
            for place, one in enumerate(self.record["devices"])
        ]

    @property
    def env(self) -> Dict[str, str]:
        """What a program that uses the GPUs needs in its environment."""
        return {
            **self.record["env"],
            "NVIDIA_VISIBLE_DEVICES": ",".join(self.uuids),
            "GPU_ORCHESTRATOR_ALLOCATION_ID": self.id,
        }

    @property
    def lost(self) -> Optional[LeaseLost]:
        """Why the lease is lost; None: it is held. Looks at the clock, so that it is right also after a pause."""
        is_known_here = self._owner == os.getpid() and not self._released.is_set()
        if self._lost is None and is_known_here and self._left() <= 0:
            self._lose(LeaseLost(self.id, "silence", "no renewal was confirmed in time; the GPUs may be granted to others"))
        return self._lost

    def check(self) -> None:
        """Raises LeaseLost when the lease is lost. Cheap: call it in each step of a long loop."""
        lost = self.lost
        if lost is not None:
            raise lost

    def release(self) -> None:
        """Gives the GPUs back. Harmless when that was done already, when the lease is lost, and in a forked child."""
        if self._released.is_set() or self._owner != os.getpid():
            return
        lost = self.lost
        self._released.set()
        _held.discard(self)
        self._restore()
        if lost is not None:
            return
        try:
            self._client.remove(self.id, self.record.get("fencing_token"))
        except ApiError as error:
            if error.code not in ENDED:
                raise

    @contextlib.contextmanager
    def environment(self) -> Iterator[Dict[str, str]]:
        """`os.environ` is the lease's while the block runs, for what is started in it; the lease goes on after it."""
        own = self.env
        before = {name: os.environ.get(name) for name in own}
        os.environ.update(own)
        try:
            yield own
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

    def set_environment(self) -> None:
        """Sets `os.environ` until the lease is released. CUDA reads it once, when it starts in the process."""
        for name, value in self.env.items():
            self._environment.append((name, os.environ.get(name)))
            os.environ[name] = value

    def _restore(self) -> None:
        for name, value in reversed(self._environment):
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._environment.clear()

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        lost = self.lost
        self.release()
        if lost is not None and kind is None:
            raise lost

    async def __aenter__(self) -> "Lease":
        return self

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        lost = self.lost
        await asyncio.to_thread(self.release)
        if lost is not None and kind is None:
            raise lost

    def __repr__(self) -> str:
        return f"<gpuo.Lease {self.id} GPU {','.join(map(str, self.indices))}>"

    def _left(self) -> float:
        if self._ttl is None or self._is_down:
            return float("inf")
        return self._certain_until - min(LONGEST_MARGIN, self._ttl / MARGIN_PARTS) - time.monotonic()

    def _lose(self, lost: LeaseLost) -> None:
        with self._lock:
            if self._lost is not None or self._released.is_set():
                return
            self._lost = lost
        if self._on_lost is not None:
            self._on_lost(lost)

    def _renew(self) -> float:
        """One renewal; how long until the next."""
        ttl = self._ttl or DEFAULT_TTL
        sent_at = time.monotonic()
        try:
            timeout = max(0.25, min(10.0, ttl / RENEWALS_PER_TTL))
            self._client.renew(self.id, self.record.get("fencing_token"), timeout=timeout, patience=0)
        except ApiError as error:
            if error.code in ENDED:
                self._lose(self._end(error))
            return min(RETRY, ttl / 12)
        except Unreachable as error:
            self._is_down = error.refused and self._client.is_local
            return min(RETRY, ttl / 12)
        self._is_down = False
        self._certain_until = sent_at + ttl
        return ttl / RENEWALS_PER_TTL

    def _end(self, error: ApiError) -> LeaseLost:
        try:
            record = self._client.call("GET", f"/gpu/allocations/{self.id}", patience=0)
            reason, detail = record.get("end_reason") or error.code, record.get("end_detail")
        except (ApiError, Unreachable):
            reason, detail = error.code, str(error)
        return LeaseLost(self.id, reason, f"the lease has ended: {reason}{f', {detail}' if detail else ''}")


def _renewing(of: "weakref.ref[Lease]", released: threading.Event) -> None:
    """Holds no lease that nobody else holds: one that is forgotten is not renewed for ever."""
    lease = of()
    if lease is None:
        return
    wait = (lease._ttl or DEFAULT_TTL) / RENEWALS_PER_TTL
    while True:
        wait = max(0.0, min(wait, lease._left()))
        del lease
        if released.wait(wait):
            return
        lease = of()
        if lease is None or lease.lost is not None:
            return
        try:
            wait = lease._renew()
        except Exception:  # noqa: BLE001 - a key file that is being written, say: the clock decides, not the error.
            wait = RETRY


class Request:
    """A request that may have to wait."""

    def __init__(self, client: Client, record: Mapping[str, Any], asked_at: float, on_lost: Any = None) -> None:
        self.id: str = record["id"]
        #: As it was last seen: `position`, `reason` and `eta` say how the waiting stands.
        self.record: Dict[str, Any] = dict(record)
        self._client = client
        self._seen_at = asked_at
        self._on_lost = on_lost

    def wait(
        self, timeout: Optional[float] = None, *, stop: Optional[threading.Event] = None, poll: float = LONG_POLL
    ) -> Lease:
        """The lease, when it is granted; NotGranted when it ends instead, or `timeout` seconds are over."""
        until = None if timeout is None else time.monotonic() + timeout
        while self.record["status"] == "queued":
            left = poll if until is None else min(poll, until - time.monotonic())
            if left <= 0 or (stop is not None and stop.is_set()):
                self.cancel()
                raise NotGranted(self.id, "timed_out", "it was not granted in time")
            self._poll(left)
        if self.record["status"] == "ended":
            reason = self.record.get("end_reason") or "ended"
            raise NotGranted(self.id, reason, self.record.get("end_detail") or f"the request ended: {reason}")
        return Lease(self._client, self.record, self._seen_at, self._on_lost)

    def _poll(self, wait: float) -> None:
        try:
            record = self._client.record(self.id, wait)
            if record["status"] in ("offered", "leased"):
                # A long poll was sent long before the grant: what counts is when a renewal was.
                self._seen_at = time.monotonic()
                record = {**record, **self._client.renew(self.id, record.get("fencing_token"))}
            self.record = record
        except (ApiError, Unreachable) as error:
            if not is_passing(error):
                raise
            time.sleep(RETRY)

    def cancel(self) -> None:
        """Stops waiting."""
        try:
            self.record = self._client.remove(self.id)
        except ApiError as error:
            if error.code not in ENDED:
                raise


def ask(
    count: int = 1,
    *,
    memory: Union[str, int, None] = None,
    name: Optional[str] = None,
    ttl: Union[str, int, None] = DEFAULT_TTL,
    **more: Any,
) -> Dict[str, Any]:
    """The body of an allocate: `memory` is `20G` (GiB), `20GB` or MiB; other names are the API's."""
    body: Dict[str, Any] = {"service_name": name or _default_name(), "required_gpus": count, "ttl": ttl}
    if memory is not None:
        body["min_memory_mb"] = memory_mib(memory)
    renamed = {"model": "gpu_model", "type": "workload_type", "data": "workload_data", "webhook": "webhook_url"}
    body.update({renamed.get(key, key): value for key, value in more.items()})
    if body.pop("shared", False):
        body["sharing"] = "shared"
    return {key: value for key, value in body.items() if value is not None}


def memory_mib(memory: Union[str, int]) -> int:
    if isinstance(memory, int):
        return memory
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:([KMGT])(i?B)?)?\s*", memory, re.IGNORECASE)
    if found is None:
        raise ValueError(f"{memory!r}: expected memory such as '20G' (GiB), '20GB' (10^9 bytes) or a number of MiB")
    amount, unit, suffix = float(found[1]), (found[2] or "M").upper(), (found[3] or "").upper()
    power = "KMGT".index(unit) + 1
    mib = amount * 1000**power / 2**20 if suffix == "B" else amount * 1024.0 ** (power - 2)
    return -int(-mib // 1)


def _default_name() -> str:
    try:
        user = getpass.getuser()
    except Exception:  # noqa: BLE001 - no such user: it depends on the Python which error says so.
        user = ""
    program = os.path.splitext(os.path.basename(sys.argv[0] if sys.argv else ""))[0]
    name = "-".join(part for part in (user, program) if part)
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-")[:128] or "python"


class gpus:
    """GPUs for as long as a `with` block runs, or `async with`.

    wait: True waits without end, False not at all, a number so many seconds.
    set_env: whether `os.environ` is set until the block ends.
    on_lost: called with LeaseLost, in a thread of its own, when the lease is lost.
    """

    def __init__(
        self,
        count: int = 1,
        *,
        wait: Union[bool, float] = True,
        set_env: bool = True,
        on_lost: Optional[Callable[[LeaseLost], Any]] = None,
        client: Optional[Client] = None,
        **more: Any,
    ) -> None:
        self._body = ask(count, **more)
        self._wait, self._set_env, self._on_lost = wait, set_env, on_lost
        self._client = client or Client()
        self._lease: Optional[Lease] = None
        self._signals: Any = None

    def request(self) -> Request:
        """Asks, and hands back what may be queued; `wait()` of it gives the lease."""
        body = dict(self._body)
        if self._wait is False:
            body["queue"] = False
        elif self._wait is not True:
            body["queue_timeout"] = f"{max(1, int(self._wait * 1000))}ms" if self._wait < 1 else f"{int(self._wait)}s"
        asked_at = time.monotonic()
        try:
            record = self._client.allocate(body, str(uuid.uuid4()))
        except ApiError as error:
            if error.code == "no-gpu-free":
                raise NotGranted(None, "no-gpu-free", str(error)) from error
            raise
        return Request(self._client, record, asked_at, self._on_lost)

    def acquire(self, stop: Optional[threading.Event] = None, poll: float = LONG_POLL) -> Lease:
        """The lease, to be released by hand: for notebooks, where a block does not last from cell to cell."""
        request = self.request()
        try:
            lease = request.wait(None if self._wait in (True, False) else float(self._wait) + RETRY, stop=stop, poll=poll)
        except BaseException:
            # Interrupted, by Ctrl-C say: whoever does not wait any more makes room at once.
            if request.record["status"] == "queued":
                request.cancel()
            raise
        if self._set_env:
            lease.set_environment()
        return lease

    def __enter__(self) -> Lease:
        self._signals = _TermAsExit()
        try:
            self._lease = self.acquire()
        except BaseException:
            self._signals.restore()
            raise
        return self._lease

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        assert self._lease is not None
        try:
            self._lease.__exit__(kind, error, trace)
        finally:
            self._signals.restore()

    async def __aenter__(self) -> Lease:
        stop = threading.Event()
        work = asyncio.ensure_future(asyncio.to_thread(self.acquire, stop, SHORT_POLL))
        try:
            self._lease = await asyncio.shield(work)
        except asyncio.CancelledError:
            stop.set()
            try:
                await asyncio.to_thread((await work).release)
            except NotGranted:
                pass
            raise
        return self._lease

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        assert self._lease is not None
        await self._lease.__aexit__(kind, error, trace)


def with_gpus(count: int = 1, **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A function, or coroutine function, that has GPUs while it runs. One with a parameter `lease` is given the lease."""

    def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
        wants_lease = "lease" in inspect.signature(function).parameters

        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def leased_async(*args: Any, **kwargs: Any) -> Any:
                async with gpus(count, **options) as lease:
                    return await function(*args, **({"lease": lease} if wants_lease else {}), **kwargs)

            return leased_async

        @functools.wraps(function)
        def leased(*args: Any, **kwargs: Any) -> Any:
            with gpus(count, **options) as lease:
                return function(*args, **({"lease": lease} if wants_lease else {}), **kwargs)

        return leased

    return decorated


class _TermAsExit:
    """SIGTERM ends a block as an exception does, so that the GPUs are given back; for whoever has no handler of his own."""

    def __init__(self) -> None:
        self._is_set = False
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            return
        signal.signal(signal.SIGTERM, self._ended)
        self._is_set = True

    @staticmethod
    def _ended(number: int, frame: Any) -> None:
        sys.exit(128 + number)

    def restore(self) -> None:
        if self._is_set and signal.getsignal(signal.SIGTERM) is self._ended:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _release_all() -> None:
    for lease in list(_held):
        try:
            lease.release()
        except Exception:  # noqa: BLE001 - the process ends; the lease ends by its TTL.
            pass


def _in_child() -> None:
    """What the parent leased is the parent's."""
    _held.clear()


atexit.register(_release_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
