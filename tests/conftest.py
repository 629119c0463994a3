"""What must hold before TensorFlow is imported anywhere in the tests."""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # tensorflow-model-optimization knows no other Keras
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
