"""An application of Django: a shop."""
