"""Plain values: recipes and their space, metrics, budgets, candidates, and how candidates are ranked.

Everything here is immutable, has canonical JSON, and is checked once, where it comes in. Nothing here starts a process or loads
TensorFlow or Optuna, so that a front can be read and a candidate picked from results alone.
"""
