"""The task: behavior, guidelines, prompts, models and budgets in one task.toml."""

from fivenines.task.task import TASK_FILE, Task

__all__ = ["TASK_FILE", "Task"]
