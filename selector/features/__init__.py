"""Feature selection: which S columns of a table reconstruct all of them best? Methods compared on held-out rows."""
