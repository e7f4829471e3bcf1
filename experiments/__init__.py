"""Command-line programs; the rooms hold what they are made of."""

from jtm_tf.command_line import quiet

quiet.tensorflow()
