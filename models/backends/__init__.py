"""Everything that goes out to others: integer networks as files of TensorFlow Lite and ONNX, each read back."""
