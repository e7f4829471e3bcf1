"""Programs that put a trained model to work: export and serving."""

try:
    from jtm_tf.command_line import quiet
except ImportError as error:  # such as another backend of Keras
    raise SystemExit(f"Error: {error}") from None

quiet.tensorflow()
