"""Selection of events: patterns, scopes, filter expressions, and their index."""
