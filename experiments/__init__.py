"""Command-line programs: prepare, train, evaluate, table1, figure2, demo."""

from jtm_tf.command_line import quiet

quiet.tensorflow()
