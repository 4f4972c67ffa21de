"""Where item lists come from."""

from selector.items.generators import Integers, Items, Normal, Uniform

__all__ = ["Integers", "Items", "Normal", "Uniform"]
