"""Where item lists come from."""

from selector.items.columns import Columns
from selector.items.file import File
from selector.items.generators import Fixed, Integers, Items, Normal, Uniform

__all__ = ["Columns", "File", "Fixed", "Integers", "Items", "Normal", "Uniform"]
