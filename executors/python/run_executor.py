"""Runs one task with one executor class: ``run_executor.py MODULE CLASS``, with TASK_FILE and OUT_DIR in the environment."""
import importlib
import json
import os
import sys
import traceback
from pathlib import Path

from worker.executors.base_executor import ExecutionError, Executor


def main(module: str, name: str) -> int:
    task = json.loads(Path(os.environ["TASK_FILE"]).read_text(encoding="utf-8"))
    out_dir = Path(os.environ["OUT_DIR"])
    responses = out_dir / "responses.json"
    executor = getattr(importlib.import_module(module), name)()
    try:
        executor.prepare()
        result = executor.run(task, out_dir)
        # An executor may have written its result by itself, as MLOC's do.
        if result is not None and not responses.exists():
            Executor.save_json(responses, result)
        return 0
    except ExecutionError as error:
        print(error, file=sys.stderr)
        Executor.save_json(responses, {"ok": False, "error": str(error)})
        return 1
    except Exception as error:
        traceback.print_exc()
        Executor.save_json(responses, {"ok": False, "error": f"{type(error).__name__}: {error}"})
        return 1
    finally:
        executor.cleanup_after_run()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
