"""Layers that compute in float32, whatever Keras's global policy or floatx.

Under a global policy of half precision, or `floatx` of keras.json, a layer
takes its type from what the process or the machine was set to, and a model
that was trained elsewhere fails, or searches in another arithmetic than it was
judged in.
"""

import keras

FLOAT32 = "float32"


class Layer(keras.layers.Layer):
    """A layer of float32, also when it is made of a saved configuration.

    Args:
        **kwargs: those of `keras.layers.Layer`; `dtype` is passed over.
    """

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "dtype": FLOAT32})


class Model(keras.Model):
    """A model of float32; see `Layer`.

    Args:
        **kwargs: those of `keras.Model`; `dtype` is passed over.
    """

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "dtype": FLOAT32})
