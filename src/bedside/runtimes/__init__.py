"""Where models run. One seam (``base.Runtime``), several engines behind it."""
