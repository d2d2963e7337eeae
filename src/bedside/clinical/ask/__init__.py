"""The caller's own prompt, as it is, under the general clinical instructions."""
