"""What comes in from PyTorch: a module becomes a functional graph of operators, and that the accelerator's steps."""
