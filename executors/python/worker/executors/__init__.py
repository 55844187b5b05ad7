from .base_executor import ExecutionError, Executor

__all__ = ["ExecutionError", "Executor"]
