"""Storing behind the plan: the callback, and the processes that it starts and watches."""
