"""People who sign in to the console by an identity provider (OpenID Connect)."""
