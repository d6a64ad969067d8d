"""Looking: search in the text of events, and the bounds of what one request may look at."""
