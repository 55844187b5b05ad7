"""A daemon with simulated GPUs. GPUO_TEST_PROGRAM says how it is started."""

import json
import os
import shlex
import signal
import socket
import subprocess
import tempfile
import time
import unittest
from typing import Any, Optional

from gpuo import Client

PROGRAM = shlex.split(os.environ.get("GPUO_TEST_PROGRAM", ""))
needs_program = unittest.skipUnless(PROGRAM, "GPUO_TEST_PROGRAM is not set: run by npm test")


class Daemon:
    def __init__(self, gpus: int = 8) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._gpus = gpus
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.port = one.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: Optional[subprocess.Popen] = None
        self.start()

    def start(self) -> None:
        command = [*PROGRAM, "serve", "--port", str(self.port), "--simulate", f"h100x{self._gpus}"]
        path = {"PATH": os.environ["PATH"]}
        self._process = subprocess.Popen(
            command, cwd=self._folder.name, env=path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + 30
        while time.monotonic() < end:
            try:
                Client(self.url, patience=0).call("GET", "/readyz")
                return
            except Exception:  # noqa: BLE001
                time.sleep(0.05)
        raise AssertionError("the daemon does not start")

    def stop(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(20)

    def close(self) -> None:
        self.stop()
        self._folder.cleanup()

    def client(self, **options: Any) -> Client:
        return Client(self.url, **options)

    def record(self, allocation_id: str) -> Any:
        return self.client().record(allocation_id)


def eventually(holds: Any, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise AssertionError("not in time")
        time.sleep(0.02)


def printed(line: str) -> Any:
    return json.loads(line)
