"""Records of other systems as native events: one module per source, `formats` lists them."""
