"""In a Jupyter kernel: a real one, talked to as a notebook does. Skipped where ipykernel and jupyter_client are not there."""

import os
import sys
import unittest
from typing import Any, Dict, List

from .daemon import Daemon, eventually, needs_program

try:
    from ipykernel import kernelapp  # noqa: F401 - the kernel itself
    from jupyter_client.manager import KernelManager
except ImportError:
    KernelManager = None

SECONDS = 60


@needs_program
@unittest.skipIf(KernelManager is None, "needs ipykernel and jupyter_client (PyPI)")
class Notebook(unittest.TestCase):
    def setUp(self) -> None:
        self.daemon = Daemon()
        self.addCleanup(self.daemon.close)
        folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        environment = {**os.environ, "GPU_ORCHESTRATOR_URL": self.daemon.url, "PYTHONPATH": folder}
        self.kernel = KernelManager()
        self.kernel._kernel_spec = None
        self.kernel.kernel_spec.argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        self.kernel.start_kernel(env=environment, stdout=-3, stderr=-3)
        self.addCleanup(lambda: self.kernel.is_alive() and self.kernel.shutdown_kernel(now=True))
        self.client = self.kernel.client()
        self.client.start_channels()
        self.addCleanup(self.client.stop_channels)
        self.client.wait_for_ready(timeout=SECONDS)

    def cell(self, source: str) -> str:
        """Runs it, and gives what it printed."""
        printed: List[str] = []

        def heard(message: Dict[str, Any]) -> None:
            if message["msg_type"] == "stream":
                printed.append(message["content"]["text"])

        reply = self.client.execute_interactive(source, timeout=SECONDS, output_hook=heard)
        self.assertEqual(reply["content"]["status"], "ok", reply["content"])
        return "".join(printed).strip()

    def listed(self, part: str) -> List[str]:
        return [one["id"] for one in self.daemon.client().call("GET", "/gpu/list")[part]]

    def ended(self, allocation_id: str) -> str:
        eventually(lambda: self.daemon.record(allocation_id)["status"] == "ended")
        return str(self.daemon.record(allocation_id)["end_reason"])

    def test_a_block_in_a_cell_has_gpus_and_gives_them_back(self) -> None:
        one = self.cell("from gpuo import gpus\nwith gpus(2) as lease: print(lease.id)")
        self.assertEqual(self.ended(one), "released")
        other = self.cell("async with gpus(1) as lease: print(lease.id)")
        self.assertEqual(self.ended(other), "released")

    def test_a_lease_lasts_from_cell_to_cell_is_renewed_and_ends_with_the_kernel(self) -> None:
        held = self.cell("from gpuo import gpus\nlease = gpus(1, ttl=3).acquire(); print(lease.id)")
        self.assertEqual(self.cell("import time; time.sleep(5); lease.check(); print(lease.lost)"), "None")
        self.assertEqual(self.daemon.record(held)["status"], "leased")
        uuids = self.cell("import os; print(os.environ['CUDA_VISIBLE_DEVICES'])")
        self.assertEqual(uuids.split(","), self.daemon.record(held)["gpu_uuids"])
        self.kernel.shutdown_kernel()
        self.assertEqual(self.ended(held), "released")

    def test_an_interrupted_cell_gives_its_gpus_back(self) -> None:
        self.cell("from gpuo import gpus; import time")
        self.client.execute("with gpus(8): time.sleep(600)")
        eventually(lambda: self.listed("allocations"))
        self.kernel.interrupt_kernel()
        eventually(lambda: not self.listed("allocations"))

    def test_an_interrupted_cell_that_waits_leaves_the_queue(self) -> None:
        self.cell("from gpuo import gpus")
        self.daemon.client().allocate({"service_name": "other", "required_gpus": 1}, "the-other")
        self.client.execute("with gpus(8): pass")
        eventually(lambda: self.listed("queue"))
        self.kernel.interrupt_kernel()
        eventually(lambda: not self.listed("queue"))

    def test_a_kernel_that_is_killed_loses_its_lease_by_the_ttl(self) -> None:
        held = self.cell("from gpuo import gpus\nlease = gpus(1, ttl=2).acquire(); print(lease.id)")
        self.kernel.shutdown_kernel(now=True)
        self.assertEqual(self.ended(held), "expired")
