"""What a subscriber asks for: patterns, scopes, filter expressions, the index."""
