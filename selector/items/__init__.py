"""Where item lists come from."""

from selector.items.generators import Fixed, Integers, Items, Normal, Uniform

__all__ = ["Fixed", "Integers", "Items", "Normal", "Uniform"]
