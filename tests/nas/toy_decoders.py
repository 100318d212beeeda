"""A user's module that has the toy task score decoders, for searches in processes of their own."""

from fake_tasks import ToyTask

import proxy_tasks

proxy_tasks.PROXY_TASKS._entries["fcos"] = ToyTask
