"""What programs import, imported once: `shell` forks them from here.

TensorFlow takes four seconds of processor time to import and, as long as it
has run nothing, can be forked. No module of ours is imported that a program
would find imported already, but for the frame of all of them.
"""

import importlib

from jtm_tf.command_line import quiet

quiet.tensorflow()
for name in ("tensorflow", "keras", "pyarrow.parquet", "scipy.sparse", "tqdm"):
    importlib.import_module(name)
