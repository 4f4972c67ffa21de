"""Which of the processes that train together this one is."""

import os


def is_lead() -> bool:
    """Whether this is the process that writes: the only one, or the first of those that Lightning started."""
    return os.environ.get("LOCAL_RANK", "0") == "0"
