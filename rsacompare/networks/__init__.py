"""Stimuli to activations: the networks themselves (the only home of TensorFlow)."""
