"""A SOAP note from an encounter's text, section by section, with unsupported sentences marked."""
