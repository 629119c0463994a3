"""Imported once by the server that jobs are forked from: the heavy libraries, imported but unused.

Nothing here may run a TensorFlow operation, or start a thread: forking after one hangs.
"""

import gc
import os
import tempfile

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # tfmot knows Keras 2 alone
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

gc.disable()  # nearly all that is made here stays: looking for garbage among it takes a quarter of the time
_stderr, _nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
os.dup2(_nowhere, 2)  # native libraries greet on it while they are loaded
try:
    import ai_edge_litert.interpreter  # noqa: F401
    import tensorflow  # noqa: F401
    import tensorflow_model_optimization  # noqa: F401
    import tf_keras  # noqa: F401

    import autoopt.execution.jobs  # noqa: F401
    from autoopt.execution import translation

    translation.prepare()
    tempfile.tempdir = None  # else jobs would have theirs where the translations went
finally:
    os.dup2(_stderr, 2)
    os.close(_stderr)
    os.close(_nowhere)

# A job's searches for garbage (TensorFlow asks for one after each conversion) need not look through millions of objects
# that all stay, nor touch, and so copy, the memory that jobs share.
gc.collect()
gc.freeze()
gc.enable()
