import asyncio
import gc
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import tracemalloc
import unittest
from unittest import mock

from gpuo import ApiError, Client, LeaseLost, NotGranted, Unreachable, gpus, with_gpus
from gpuo._lease import memory_mib

from .daemon import Daemon, eventually, needs_program

daemon: Daemon


def setUpModule() -> None:
    global daemon
    if not os.environ.get("GPUO_TEST_PROGRAM"):
        raise unittest.SkipTest("GPUO_TEST_PROGRAM is not set: run by npm test")
    daemon = Daemon()
    os.environ["GPU_ORCHESTRATOR_URL"] = daemon.url


def tearDownModule() -> None:
    daemon.close()


def program(source: str) -> subprocess.Popen:
    """A program of its own, which prints what it is at."""
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    environment = {**os.environ, "PYTHONPATH": folder}
    return subprocess.Popen(
        [sys.executable, "-uc", textwrap.dedent(source)], env=environment, stdout=subprocess.PIPE, text=True
    )


def square(number: int) -> int:
    return number * number


def held_bytes() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


class Blocks(unittest.TestCase):
    def test_a_block_has_its_gpus_in_the_environment_and_gives_them_back(self) -> None:
        before = os.environ.get("CUDA_VISIBLE_DEVICES")
        with gpus(2, memory="20G", max_duration="8h", name="trainer") as lease:
            self.assertEqual(os.environ["CUDA_VISIBLE_DEVICES"].split(","), lease.uuids)
            self.assertEqual(os.environ["GPU_ORCHESTRATOR_ALLOCATION_ID"], lease.id)
            self.assertEqual([device.cuda for device in lease.devices], ["cuda:0", "cuda:1"])
            record = daemon.record(lease.id)
            self.assertEqual((record["status"], record["min_memory_mb"]), ("leased", 20480))
            self.assertEqual(record["max_duration_seconds"], 8 * 3600)
        self.assertEqual(os.environ.get("CUDA_VISIBLE_DEVICES"), before)
        self.assertEqual(daemon.record(lease.id)["end_reason"], "released")

    def test_an_exception_gives_them_back(self) -> None:
        with self.assertRaises(KeyError):
            with gpus() as lease:
                raise KeyError
        self.assertEqual(daemon.record(lease.id)["status"], "ended")

    def test_the_environment_is_left_alone_when_told_so(self) -> None:
        before = dict(os.environ)
        with gpus(set_env=False) as lease:
            self.assertEqual(dict(os.environ), before)
            self.assertIn("CUDA_VISIBLE_DEVICES", lease.env)

    def test_a_context_sets_the_environment_and_nothing_else(self) -> None:
        with gpus(set_env=False) as lease:
            before = os.environ.get("CUDA_VISIBLE_DEVICES")
            with lease.environment() as env:
                child = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"
                seen = subprocess.run([sys.executable, "-c", child], stdout=subprocess.PIPE, text=True, check=True)
                self.assertEqual(seen.stdout.strip(), ",".join(lease.uuids))
                self.assertEqual(env["GPU_ORCHESTRATOR_ALLOCATION_ID"], lease.id)
            self.assertEqual(os.environ.get("CUDA_VISIBLE_DEVICES"), before)
            self.assertEqual(daemon.record(lease.id)["status"], "leased")

    def test_a_lease_is_renewed_for_as_long_as_it_is_held(self) -> None:
        with gpus(ttl=1) as lease:
            time.sleep(2.5)
            lease.check()
            self.assertEqual(daemon.record(lease.id)["status"], "leased")

    def test_sigterm_gives_them_back(self) -> None:
        child = program(
            """
            import time
            from gpuo import gpus
            with gpus() as lease:
                print(lease.id)
                time.sleep(100)
            """
        )
        assert child.stdout is not None
        allocation_id = child.stdout.readline().strip()
        child.terminate()
        self.assertEqual(child.wait(20), 143)
        self.assertEqual(daemon.record(allocation_id)["end_reason"], "released")
        child.stdout.close()

    def test_an_exit_gives_back_what_was_leased_by_hand(self) -> None:
        child = program("from gpuo import gpus\nlease = gpus().acquire()\nprint(lease.id)")
        output, _ = child.communicate(timeout=30)
        self.assertEqual(daemon.record(output.strip())["end_reason"], "released")

    def test_a_decorated_function_has_gpus_while_it_runs(self) -> None:
        @with_gpus(1, name="decorated")
        def train(factor, lease=None):
            return factor, daemon.record(lease.id)["status"], lease

        factor, status, lease = train(3)
        self.assertEqual((factor, status), (3, "leased"))
        self.assertEqual(daemon.record(lease.id)["status"], "ended")

    def test_blocks_leak_neither_threads_nor_files_nor_memory(self) -> None:
        """GPUO_TEST_ROUNDS=10000 is the long form."""

        def blocks(count: int) -> None:
            for _ in range(count):
                with gpus(set_env=False):
                    pass

        blocks(20)
        eventually(lambda: threading.active_count() == 1)
        files = len(os.listdir("/proc/self/fd"))
        tracemalloc.start()
        try:
            before = held_bytes()
            blocks(int(os.environ.get("GPUO_TEST_ROUNDS", "200")))
            eventually(lambda: threading.active_count() == 1)
            grown = held_bytes() - before
        finally:
            tracemalloc.stop()
        self.assertLessEqual(len(os.listdir("/proc/self/fd")), files)
        self.assertLess(grown, 100_000, "bytes that are held on to")


class Loss(unittest.TestCase):
    def test_a_revoked_lease_is_told_and_raised(self) -> None:
        told = []
        with self.assertRaises(LeaseLost) as caught:
            with gpus(ttl=3, on_lost=told.append) as lease:
                body = {"reason": "the fan is on fire"}
                daemon.client().call("POST", f"/gpu/allocations/{lease.id}/revoke", body)
                eventually(lambda: lease.lost is not None)
                self.assertRaises(LeaseLost, lease.check)
        self.assertEqual(caught.exception.reason, "revoked")
        self.assertIn("the fan is on fire", str(caught.exception))
        self.assertEqual(len(told), 1)

    def test_a_process_that_was_stopped_for_twice_its_ttl_knows_at_once_that_its_lease_is_lost(self) -> None:
        child = program(
            """
            import time
            from gpuo import LeaseLost, gpus
            try:
                with gpus(ttl=2) as lease:
                    print(lease.id)
                    while True:
                        lease.check()
                        time.sleep(0.001)
            except LeaseLost as lost:
                print("lost", lost.reason)
            """
        )
        assert child.stdout is not None
        allocation_id = child.stdout.readline().strip()
        child.send_signal(signal.SIGSTOP)
        eventually(lambda: daemon.record(allocation_id)["status"] == "ended")
        child.send_signal(signal.SIGCONT)
        self.assertEqual(child.stdout.readline().split(), ["lost", "silence"])
        child.wait(20)
        child.stdout.close()

    def test_a_daemon_that_is_restarted_is_not_noticed(self) -> None:
        with gpus(ttl=2, name="survivor") as lease:
            daemon.stop()
            time.sleep(3)
            lease.check()
            daemon.start()
            time.sleep(1)
            lease.check()
            self.assertEqual(daemon.record(lease.id)["status"], "leased")
        self.assertEqual(daemon.record(lease.id)["end_reason"], "released")


class Waiting(unittest.TestCase):
    def test_who_does_not_wait_is_told_that_nothing_is_free(self) -> None:
        with gpus(8):
            self.assertRaises(NotGranted, gpus(1, wait=False).acquire)
            with self.assertRaises(NotGranted) as caught:
                gpus(1, wait=1).acquire()
            self.assertEqual(caught.exception.reason, "timed_out")

    def test_a_request_that_waits_says_where_it_stands_and_is_granted_in_its_turn(self) -> None:
        with gpus(8):
            request = gpus(1).request()
            self.assertEqual((request.record["status"], request.record["position"]), ("queued", 1))
        lease = request.wait(30)
        self.assertEqual(daemon.record(lease.id)["status"], "leased")
        lease.release()

    def test_a_request_can_be_cancelled(self) -> None:
        with gpus(8):
            request = gpus(1).request()
            request.cancel()
            self.assertEqual(daemon.record(request.id)["end_reason"], "cancelled")

    def test_what_can_never_be_granted_is_refused_with_its_code(self) -> None:
        with self.assertRaises(ApiError) as caught:
            gpus(9).acquire()
        self.assertEqual((caught.exception.status, caught.exception.code), (422, "request-never-fits"))

    def test_where_nobody_says_where_it_is_the_socket_of_the_host_is_tried_first(self) -> None:
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listening:
            path = os.path.join(folder, "gpuo.sock")
            with mock.patch("gpuo._client.DEFAULT_SOCKET", path), mock.patch.dict(os.environ):
                del os.environ["GPU_ORCHESTRATOR_URL"]
                self.assertEqual(Client().url, "http://127.0.0.1:8086")
                listening.bind(path)
                self.assertEqual(Client().url, f"unix:{path}")

    def test_nobody_there_is_said_so(self) -> None:
        from gpuo import Client

        with self.assertRaises(Unreachable) as caught:
            Client("http://127.0.0.1:1", patience=0).status()
        self.assertTrue(caught.exception.refused)


class Company(unittest.TestCase):
    """Threads, tasks and processes beside each other."""

    def test_a_forked_child_neither_renews_nor_releases(self) -> None:
        with gpus(ttl=2) as lease:
            child = os.fork()
            if child == 0:
                lease.release()
                os._exit(0 if lease.lost is None else 1)
            self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)
            self.assertEqual(daemon.record(lease.id)["status"], "leased")

    def test_pools_of_processes_work_within_a_block(self) -> None:
        for method in ("fork", "spawn"):
            with self.subTest(method), gpus() as lease:
                with multiprocessing.get_context(method).Pool(2) as pool:
                    self.assertEqual(pool.map(square, [1, 2, 3]), [1, 4, 9])
                self.assertEqual(daemon.record(lease.id)["status"], "leased")

    def test_threads_have_leases_of_their_own(self) -> None:
        seen = []

        def work() -> None:
            with gpus(1, set_env=False) as lease:
                seen.append(lease.uuids[0])
                time.sleep(0.3)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(set(seen)), 4)

    def test_tasks_have_leases_of_their_own(self) -> None:
        async def work() -> str:
            async with gpus(1, set_env=False) as lease:
                await asyncio.sleep(0.3)
                return lease.uuids[0]

        async def all_of_them():
            return await asyncio.gather(*(work() for _ in range(4)))

        self.assertEqual(len(set(asyncio.run(all_of_them()))), 4)

    def test_a_task_that_is_cancelled_while_it_waits_leaves_the_queue(self) -> None:
        async def cancelled() -> None:
            async def work() -> None:
                async with gpus(1, name="cancelled"):
                    raise AssertionError("granted")

            task = asyncio.ensure_future(work())
            await asyncio.sleep(1)
            task.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await task

        with gpus(8):
            asyncio.run(cancelled())
            self.assertEqual([one["service_name"] for one in daemon.client().list()["queue"]], [])

    def test_a_decorated_coroutine_has_gpus_while_it_runs(self) -> None:
        @with_gpus()
        async def train(lease):
            return (await asyncio.to_thread(daemon.record, lease.id))["status"]

        self.assertEqual(asyncio.run(train()), "leased")


class Events(unittest.TestCase):
    def test_events_are_told_from_any_of_them_on(self) -> None:
        with gpus(name="told") as lease:
            pass
        seen = []
        for event in daemon.client().events(0):
            if event.data.get("id") == lease.id:
                seen.append(event.type)
            if seen[-1:] == ["ended"]:
                break
        self.assertEqual([one for one in seen if one in ("submitted", "granted", "ended")], ["submitted", "granted", "ended"])


class Memory(unittest.TestCase):
    def test_memory_is_read_as_the_command_line_reads_it(self) -> None:
        given = {"20G": 20480, "20GiB": 20480, "20GB": 19074, "512": 512, "1.5G": 1536, "1T": 1048576}
        self.assertEqual({text: memory_mib(text) for text in given}, given)
        self.assertRaises(ValueError, memory_mib, "lots")
