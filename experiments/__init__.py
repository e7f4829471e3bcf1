"""Command-line programs: prepare, train, evaluate."""

import os

# Before TensorFlow is imported: its start-up notes are not for users.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
