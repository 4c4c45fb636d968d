"""Plain numpy kernels; the reduced axis comes last; nothing of ours is imported."""
