"""The base class of custom executors, under the name that MLOC gives it.

A class that was written for MLOC's worker runs here unchanged::

    from worker.executors.base_executor import Executor, ExecutionError

    class MyExecutor(Executor):
        name = "my-executor"

        def run(self, task: dict, out_dir: Path) -> dict:
            ...
"""
import json
import os
from abc import ABC, abstractmethod
from pathlib import Path


class ExecutionError(RuntimeError):
    """The task failed for a reason that whoever sent it should read."""


class Executor(ABC):
    name = "base"

    def prepare(self) -> None:
        """Called once, before the task: what takes long to load is loaded here."""

    @abstractmethod
    def run(self, task: dict, out_dir: Path) -> dict:
        """Does the task; what it returns is its result."""

    def cleanup_after_run(self) -> None:
        """Called once, whatever became of the task."""

    @staticmethod
    def save_json(path: Path, payload: dict) -> None:
        """Whole or not at all."""
        draft = path.with_name(path.name + ".new")
        draft.write_text(json.dumps(payload, ensure_ascii=False), encoding="utf-8")
        os.replace(draft, path)
