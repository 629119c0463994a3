"""`.tflite` files: made, changed, read, proven and run.

A scheme says how a model is stored; `conversion` makes the file, `contents` reads what is inside, `proof` says whether each
technique really took, and `interpreter` runs it over data.
"""
