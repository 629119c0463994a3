"""Classes of Keras 3 for layers whose own class is not at hand, made from the tf_keras layers that stand for them.

So a file can be read without the code that it was saved with.
"""

from collections.abc import Callable
from typing import Any

from autoopt.models.keras3_settings import settings_for
from autoopt.models.keras_internals import takes_argument


def placeholder(name: str, stand_in: Any) -> Any:
    """A layer class of Keras 3 that takes any settings, holds the weights, and computes what a tf_keras layer does.

    Args:
        name: of the class in the file.
        stand_in: a tf_keras layer class that takes the same settings and has the same weights, in the same order.
    """
    import keras  # type: ignore[import-untyped]
    import tensorflow as tf

    common = ("name", "trainable", "dtype")

    class Placeholder(keras.layers.Layer):  # type: ignore[misc]
        def __init__(self, **config: Any) -> None:
            super().__init__(**{key: value for key, value in config.items() if key in common})
            self.told = {key: value for key, value in config.items() if key not in common}
            made = stand_in(**settings_for(stand_in, self.told))
            # In a function: Keras 3 would look for its own kind of weights in it.
            self.made: Callable[[], Any] = lambda: made

        def build(self, shape: Any) -> None:
            made = self.made()
            made.build(tf.TensorShape(shape))
            for weight in made.weights:
                short = weight.name.split("/")[-1].split(":")[0]
                self.add_weight(shape=tuple(weight.shape), name=short, trainable=weight.trainable)

        def load_own_variables(self, store: Any) -> None:
            super().load_own_variables(store)
            self.made().set_weights([weight.numpy() for weight in self.weights])

        def call(self, inputs: Any) -> Any:
            mode = {"training": False} if takes_argument(self.made(), "training") else {}
            return self.made()(inputs, **mode)

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), **self.told}

    Placeholder.__name__ = Placeholder.__qualname__ = name
    return Placeholder
