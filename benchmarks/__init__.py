"""Speed and memory of training, preparing, searching and what is exported."""

from jtm_tf.command_line import quiet

quiet.tensorflow()
