"""What a person types and sees: options, messages, progress, stopping."""
