"""Processes of the pooler and what goes between them."""
