"""Access review as a report: who may see what, who looked, and what has changed."""
