"""A user's model and data, taken in.

Whatever Keras version wrote a model, it becomes one of tf_keras that computes the same, or a closed file that is only quantized.
The task says what belongs together: model, data, labels, metric; and quality is computed here, of outputs and labels.
"""
