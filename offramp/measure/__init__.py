"""What is measured, on which inputs, against which peers."""
