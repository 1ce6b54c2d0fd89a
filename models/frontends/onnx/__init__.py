"""ONNX files, in float and in all of ONNX's quantized forms, as modules of PyTorch's."""
