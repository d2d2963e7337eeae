"""Who, and may they? Actions and roles as tables, sign-in, tokens, and decisions with their reason."""
