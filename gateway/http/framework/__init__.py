"""What the HTTP interface relies on inside of the framework below it, aiohttp."""
