"""Local response normalisation across channels, as Caffe scales it, as a Keras layer."""

from __future__ import annotations

from functools import cache
from typing import Any

from rsacompare.networks import engine

# Caffe's local_size 5, alpha 1e-4, beta 0.75, k 1 (FACTS 5). Caffe divides alpha by local_size
# (lrn_layer.cpp), TensorFlow does not: 2 neighbours on each side, alpha 1e-4 / 5.
CAFFE = {"depth_radius": 2, "alpha": 2e-5, "bias": 1.0, "beta": 0.75}


@cache
def local_response_normalization() -> type:
    """The layer's class, registered with Keras under `rsacompare>LocalResponseNormalization`.

    Made on the first call, because Keras is imported only when a network runs. A saved model that
    holds the layer loads once this has been called in the process.

    Returns
    -------
    type
        A ``keras.layers.Layer``: ``x / (bias + alpha * sum of x^2 over 2 depth_radius + 1
        channels) ** beta``, by default with Caffe's numbers.
    """
    engine.keras()  # before the import, which would talk
    import keras

    @keras.saving.register_keras_serializable(package="rsacompare")
    class LocalResponseNormalization(keras.layers.Layer):
        """Each unit over a power of the mean square of its neighbours in channels."""

        def __init__(
            self,
            depth_radius: int = 2,
            alpha: float = 2e-5,
            bias: float = 1.0,
            beta: float = 0.75,
            **options: Any,
        ):
            super().__init__(**options)
            self.depth_radius, self.alpha, self.bias, self.beta = depth_radius, alpha, bias, beta

        def call(self, inputs: Any) -> Any:
            import tensorflow as tf

            return tf.nn.local_response_normalization(
                inputs, self.depth_radius, bias=self.bias, alpha=self.alpha, beta=self.beta
            )

        def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Any:
            return input_shape

        def get_config(self) -> dict[str, Any]:
            own = {name: getattr(self, name) for name in CAFFE}
            return {**super().get_config(), **own}

    return LocalResponseNormalization
