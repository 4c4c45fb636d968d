"""Many cells, one question."""
