"""The training stages, a file a technique: channels, pruning, clustering, quantization-aware training.

`stages` is the table of them. Each turns a Keras model into another one, and proves what it did on the weights.
"""
