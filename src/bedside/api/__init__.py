"""The doors: one file per language that callers speak. They translate, nothing more."""
