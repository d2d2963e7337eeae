"""The life of a model on disk: known by name, fetched, verified, kept by its digest, removed.

``catalogue`` what is known by name; ``pull`` gets it; ``store`` keeps it; ``gguf`` reads what a file says
of itself. Where files come from is behind the seam in ``sources``: ``local``, ``index`` and ``url``.
"""
