"""TensorFlow Lite files that are fully int8, as integer networks."""
