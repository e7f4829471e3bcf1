"""Command-line programs; the rooms hold what they are made of."""

try:
    from jtm_tf.command_line import quiet
except ImportError as error:  # such as another backend of Keras
    raise SystemExit(f"Error: {error}") from None

quiet.tensorflow()
