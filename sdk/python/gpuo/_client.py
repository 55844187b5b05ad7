"""The API, call by call.

1. A call that changes something is repeated only when that cannot do it twice: an allocate bears an Idempotency-Key, and
   renewing and releasing come to the same however often they are asked for.
2. What is repeated is what got no answer, and what the daemon refuses while it starts, stops or has no room.
"""

import errno
import hashlib
import http.client
import json
import os
import random
import socket
import ssl
import stat
import time
import uuid
from typing import Any, Dict, Iterator, Mapping, NamedTuple, Optional, Tuple, Union
from urllib.parse import quote, urlencode, urlsplit

from ._errors import ApiError, Unreachable

DEFAULT_URL = "http://127.0.0.1:8086"
#: Where the Debian package's daemon listens for users of its host, if its settings have it so.
DEFAULT_SOCKET = "/run/gpu-orchestrator/gpuo.sock"
CALL_TIMEOUT = 30.0
#: The daemon shows every 15 s that a stream lives.
STREAM_SILENCE = 45.0
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
PASSING = frozenset(
    ["shutting-down", "not-ready", "overloaded", "storage-unavailable", "idempotency-key-in-use", "too-many-streams"]
)
#: In an answer: prove who you are, with this. In a request: proved, with that.
PROVE, PROOF = "gpu-orchestrator-prove", "gpu-orchestrator-proof"
#: Of a proof that was too late, or whose daemon was started anew meanwhile, another is made.
MAX_PROOFS = 2
#: A daemon that is being started has no folder for proofs yet, and a disk is full for a while.
PASSING_OF_PROOFS = frozenset([errno.ENOENT, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE])


class Event(NamedTuple):
    """One event of the daemon; docs/events.md lists the types and what `data` has."""

    id: int
    type: str
    data: Dict[str, Any]


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = os.path.realpath(path)
        self._asked: Optional[Tuple[str, str, Any, Mapping[str, str]]] = None

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)

    def getresponse(self) -> http.client.HTTPResponse:
        answer = super().getresponse()
        for _ in range(MAX_PROOFS):
            nonce = answer.getheader(PROVE)
            if answer.status != 401 or nonce is None or self._asked is None:
                break
            method, url, body, headers = self._asked
            answer.read()
            directory = self._prove(nonce)
            try:
                super().request(method, url, body, {**headers, PROOF: nonce})
                answer = super().getresponse()
            finally:
                try:
                    os.rmdir(directory)
                except OSError:
                    pass  # the daemon has seen it
        return answer

    def request(self, method: str, url: str, body: Any = None, headers: Any = {}, **how: Any) -> None:
        self._asked = (method, url, body, headers)
        super().request(method, url, body, headers, **how)

    def _prove(self, nonce: str) -> str:
        """Makes the directory by which a daemon that cannot ask its kernel tells who calls.

        Its name is of the socket's own path: what another socket's owner is given is of no use at this one's.
        """
        name = hashlib.sha256(f"{nonce}\n{self._path}".encode()).hexdigest()
        directory = f"{self._path}.callers/{name}"
        try:
            os.mkdir(directory, 0o700)
        except OSError as error:
            detail = f"the daemon asks who calls, and that cannot be proved: {error}"
            if error.errno in PASSING_OF_PROOFS:
                # Somebody answers, so the daemon is not down.
                raise Unreachable(detail) from error
            raise ApiError(401, "unauthenticated", detail) from error
        return directory


class Client:
    """One daemon, and who calls it. Safe to use from several threads: each call has a connection of its own.

    Without arguments, the environment says both: GPU_ORCHESTRATOR_URL, GPU_ORCHESTRATOR_API_KEY_FILE and
    GPU_ORCHESTRATOR_API_KEY.
    """

    def __init__(
        self,
        url: Optional[str] = None,
        *,
        key: Optional[str] = None,
        key_file: Optional[str] = None,
        patience: float = 10.0,
    ) -> None:
        self.url = url or os.environ.get("GPU_ORCHESTRATOR_URL") or _default_url()
        #: How long, in seconds, what is safe to repeat is repeated while nobody answers.
        self.patience = patience
        self._key = key
        self._key_file = key_file or (None if key else os.environ.get("GPU_ORCHESTRATOR_API_KEY_FILE"))
        self._socket = self.url[len("unix:") :] if self.url.startswith("unix:") else None
        self._address = urlsplit(self.url)
        if self._socket is None and self._address.scheme not in ("http", "https"):
            raise ValueError(f"{self.url}: expected http://, https:// or unix:")

    @property
    def is_local(self) -> bool:
        """Whether the daemon is on this host: then what refuses a connection is a daemon that is down."""
        host = self._address.hostname or ""
        return self._socket is not None or host in ("localhost", "::1") or host.startswith("127.")

    def status(self) -> Dict[str, Any]:
        return self.call("GET", "/gpu/status")

    def list(self) -> Dict[str, Any]:
        return self.call("GET", "/gpu/list")

    def quotas(self) -> Dict[str, Any]:
        return self.call("GET", "/gpu/quotas")

    def windows(self) -> Dict[str, Any]:
        return self.call("GET", "/gpu/windows")

    def reservations(self) -> Dict[str, Any]:
        return self.call("GET", "/gpu/reservations")

    def reserve(self, body: Mapping[str, Any]) -> Dict[str, Any]:
        """Keeps GPUs from a time for a while; an ApiError with `reservation-refused` where that cannot hold."""
        return self.call("POST", "/gpu/reservations", body)

    def cancel_reservation(self, reservation_id: str) -> Dict[str, Any]:
        return self.call("DELETE", "/gpu/reservations/" + quote(reservation_id, safe=""))

    def usage(self, **period: str) -> Dict[str, Any]:
        """`from_` and `to` are RFC 3339 times; without them, the last 24 hours."""
        return self.call("GET", "/gpu/usage", query={name.rstrip("_"): value for name, value in period.items()})

    def plan(self, body: Mapping[str, Any]) -> Dict[str, Any]:
        """What an allocate with this body would come to now; changes nothing."""
        return self.call("POST", "/gpu/plan", body)

    def allocate(self, body: Mapping[str, Any], idempotency_key: Optional[str] = None) -> Dict[str, Any]:
        """`status` is `allocated` or `queued`. The same idempotency key never gets a second lease."""
        key = idempotency_key or str(uuid.uuid4())
        return self.call("POST", "/gpu/allocate", body, headers={"idempotency-key": key})

    def record(self, allocation_id: str, wait: float = 0.0) -> Dict[str, Any]:
        """While it is queued, the answer is held until that changes, for `wait` seconds at most."""
        query = {"wait": f"{int(wait * 1000)}ms"} if wait > 0 else {}
        return self.call("GET", _path(allocation_id), query=query, timeout=CALL_TIMEOUT + wait)

    def renew(self, allocation_id: str, fencing_token: Optional[int] = None, **how: Any) -> Dict[str, Any]:
        body = {} if fencing_token is None else {"fencing_token": fencing_token}
        return self.call("POST", _path(allocation_id) + "/renew", body, **how)

    def remove(self, allocation_id: str, fencing_token: Optional[int] = None) -> Dict[str, Any]:
        """Ends a lease or cancels what waits; the record as it is then."""
        query = {} if fencing_token is None else {"fencing_token": str(fencing_token)}
        return self.call("DELETE", _path(allocation_id), query=query)

    def events(self, after: Optional[int] = None) -> Iterator[Event]:
        """The events after `after` (0: all that are kept; None: those to come), resumed when the stream breaks."""
        failures = 0
        while True:
            try:
                for event in self._stream(after):
                    failures = 0
                    after = event.id
                    if event.type:
                        yield event
            except (ApiError, Unreachable) as error:
                if not is_passing(error):
                    raise
            time.sleep(_pause(failures, None))
            failures += 1

    def call(
        self,
        method: str,
        path: str,
        body: Optional[Mapping[str, Any]] = None,
        *,
        query: Mapping[str, str] = {},
        headers: Mapping[str, str] = {},
        timeout: float = CALL_TIMEOUT,
        patience: Optional[float] = None,
        repeatable: bool = True,
    ) -> Any:
        """One call of the API. Give `repeatable=False` for one that must not be done twice."""
        until = time.monotonic() + (self.patience if patience is None else patience)
        failures = 0
        while True:
            try:
                status, fields, text = self._send(method, path, body, query, headers, timeout)
                if 200 <= status < 300:
                    return _parsed(text)
                raise _problem(status, fields, text)
            except (ApiError, Unreachable) as error:
                after = _pause(failures, error.retry_after if isinstance(error, ApiError) else None)
                is_safe = repeatable or (isinstance(error, Unreachable) and error.refused)
                if not is_safe or not is_passing(error) or time.monotonic() + after > until:
                    raise
                time.sleep(after)
                failures += 1

    def _send(
        self,
        method: str,
        path: str,
        body: Optional[Mapping[str, Any]],
        query: Mapping[str, str],
        headers: Mapping[str, str],
        timeout: float,
    ) -> Tuple[int, Mapping[str, str], bytes]:
        connection = self._connect(timeout)
        try:
            content = None if body is None else json.dumps(body)
            fields = {"accept": "application/json", "connection": "close", **self._headers(), **headers}
            if content is not None:
                fields["content-type"] = "application/json"
            connection.request(method, self._target(path, query), content, fields)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error
        finally:
            connection.close()

    def _stream(self, after: Optional[int]) -> Iterator[Event]:
        connection = self._connect(STREAM_SILENCE)
        try:
            fields = {"accept": "text/event-stream", **self._headers()}
            if after is not None:
                fields["last-event-id"] = str(after)
            connection.request("GET", self._target("/gpu/events", {}), None, fields)
            answer = connection.getresponse()
            if answer.status != 200:
                raise _problem(answer.status, answer.headers, answer.read())
            number, kind, data = 0, "", ""
            for line in iter(answer.readline, b""):
                name, _, value = line.decode().rstrip("\r\n").partition(":")
                value = value[1:] if value.startswith(" ") else value
                if name == "id":
                    number = int(value)
                elif name == "event":
                    kind = value
                elif name == "data":
                    data += value
                elif name == "" and value == "" and line.strip() == b"":
                    # One without data only says where the stream stands.
                    yield Event(number, kind if data else "", json.loads(data) if data else {})
                    kind, data = "", ""
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error
        finally:
            connection.close()

    def _connect(self, timeout: float) -> http.client.HTTPConnection:
        if self._socket is not None:
            return _UnixConnection(self._socket, timeout)
        host, port = self._address.hostname or "", self._address.port
        if self._address.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=timeout, context=ssl.create_default_context())
        return http.client.HTTPConnection(host, port, timeout=timeout)

    def _target(self, path: str, query: Mapping[str, str]) -> str:
        base = "" if self._socket is not None else self._address.path.rstrip("/")
        return base + path + (f"?{urlencode(query)}" if query else "")

    def _headers(self) -> Dict[str, str]:
        key = self._key or os.environ.get("GPU_ORCHESTRATOR_API_KEY")
        if self._key_file:
            # Read each time: a key that is changed on disk is taken up.
            with open(os.path.expanduser(self._key_file), encoding="utf-8") as file:
                key = file.read().strip()
        return {"authorization": f"Bearer {key}"} if key else {}

    def _unreachable(self, error: Exception) -> Unreachable:
        refused = isinstance(error, (ConnectionRefusedError, FileNotFoundError, socket.gaierror))
        return Unreachable(f"{self.url}: {error or type(error).__name__}", refused)


def _default_url() -> str:
    """The socket, where there is one: it says who calls, and without keys nothing listens elsewhere then."""
    try:
        is_socket = stat.S_ISSOCK(os.stat(DEFAULT_SOCKET).st_mode)
    except OSError:
        is_socket = False
    return f"unix:{DEFAULT_SOCKET}" if is_socket else DEFAULT_URL


def is_passing(error: Exception) -> bool:
    """Whether waiting and asking again may help."""
    return isinstance(error, Unreachable) or (isinstance(error, ApiError) and error.code in PASSING)


def _path(allocation_id: str) -> str:
    return "/gpu/allocations/" + quote(allocation_id, safe="")


def _parsed(text: Union[bytes, str]) -> Any:
    try:
        return json.loads(text) if text else None
    except ValueError as error:
        raise Unreachable("what answered is not the daemon: its answer is not JSON") from error


def _problem(status: int, fields: Mapping[str, str], text: bytes) -> Exception:
    try:
        document = json.loads(text)
        detail = document.get("detail") or document.get("title") or f"answered {status}"
        code, errors = document.get("code", "not-the-api"), document.get("errors")
    except (ValueError, AttributeError):
        if 502 <= status <= 504:
            return Unreachable(f"a proxy answered {status}")
        return ApiError(status, "not-the-api", f"answered {status}, and not as the API does")
    after = fields.get("retry-after", "")
    return ApiError(status, code, detail, errors, float(after) if after.isdigit() else None)


def _pause(failures: int, retry_after: Optional[float]) -> float:
    """Doubling, with a random part so that clients do not come back all at once."""
    back_off = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(failures, 10)) * random.uniform(0.5, 1.0)
    return max(retry_after or 0.0, back_off)
