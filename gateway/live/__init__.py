"""The live path: one tail per log, a hub of groups, and the subscriptions."""
