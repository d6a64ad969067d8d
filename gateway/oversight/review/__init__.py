"""Review of access: explanations, documents and simulations."""
