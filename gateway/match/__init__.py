"""What a subscriber asked for: patterns, scopes, filter expressions, the index (pure)."""
