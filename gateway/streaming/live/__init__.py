"""The live path: a hub of groups, and the subscriptions in them."""
