"""Ways in of other protocols. Each reads what its senders send, and answers as they understand."""
