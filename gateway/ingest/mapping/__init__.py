"""Foreign audit records as native events: one module per source, `formats` lists them."""
