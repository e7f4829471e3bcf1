"""Programs that put a trained model to work: export and serving."""

from jtm_tf.command_line import quiet

quiet.tensorflow()
