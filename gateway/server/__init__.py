"""The HTTP interface (aiohttp): one file per resource."""
