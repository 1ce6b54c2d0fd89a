"""PyTorch networks that this project trains."""
