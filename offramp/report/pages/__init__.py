"""Results as pages: sections with figures and tables."""
