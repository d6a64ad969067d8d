"""Live streaming: a hub of groups, and the subscriptions in them."""
