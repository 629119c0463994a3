"""Ways to make a better integer file of a float32 `.tflite`: what `recipe.Quantize` asks for, a module each."""
