"""Evidence to uncertainty; never sees a concrete metric."""
