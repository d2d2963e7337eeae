"""What happened, provably: typed records, an append-only chained log, and a verifier that only reads."""
