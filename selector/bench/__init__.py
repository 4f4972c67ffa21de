"""Benchmarks that a user can run: ratios of this package's cost to that of what one would write by hand."""

SECTIONS = ("picking", "training", "processes", "startup", "scaling", "roofline")
