"""Several processes as one pooler: what each tells of itself, one view joined from that, and orders that reach all."""
