"""Looking after the program: its settings files, the machine it runs on, its log."""
