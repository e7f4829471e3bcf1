"""Programs that put a trained model to work: export and serving."""

import experiments  # noqa: F401  TensorFlow starts quietly, as it does there.
