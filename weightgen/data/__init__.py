"""Data sets: from their official files to tasks, and from adapted weights to what a prior is trained on."""

from weightgen.data.conditions import TaskConditions
from weightgen.data.latents import LatentTasks
from weightgen.data.meta_vqa.tasks import MetaVQATasks, load_tasks
from weightgen.data.task_list import TaskList

__all__ = ["LatentTasks", "MetaVQATasks", "TaskConditions", "TaskList", "load_tasks"]
