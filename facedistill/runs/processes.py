"""Which process of a run writes its files."""

from lightning.fabric.utilities.rank_zero import rank_zero_only


def process_rank() -> int:
    """This process's number, also before the process group exists."""
    return getattr(rank_zero_only, "rank", 0) or 0


def is_main_process() -> bool:
    """Whether this process is the one that writes files: rank 0, or the only one."""
    return process_rank() == 0
