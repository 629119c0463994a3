"""The folder that a person ships: the model, its card, code that runs it, and samples to check it by.

`bundle.make` gives all files by name; the other modules write one of them each.
"""
