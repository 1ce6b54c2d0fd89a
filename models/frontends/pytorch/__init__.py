"""Modules of PyTorch's as the steps that the accelerator knows, in float."""
