"""What pytest asks of all tests together."""

import gc


def pytest_collection_finish(session):
    """Takes what imports made out of the garbage collector's sight.

    TensorFlow's modules are a million objects that stay; looked at again and
    again, they are a tenth of the time of tests that trace graphs.
    """
    del session
    gc.collect()
    gc.freeze()
