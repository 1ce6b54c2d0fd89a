"""Files that commands read and write: what they are, where they are, what results say."""
