"""bedside: clinical AI that stays in the building."""

__version__ = "0.1.0"
