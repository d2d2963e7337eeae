"""The words every other part uses: errors, settings, chat types, clock. No I/O, no framework."""
