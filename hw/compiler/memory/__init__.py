"""What the memories of the cores hold: maps and lists."""
