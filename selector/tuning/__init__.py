"""Searching for hyper-parameters: ``python -m selector tune <yaml>``."""
