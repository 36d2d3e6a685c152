"""What the last migration leaves."""

from __future__ import annotations

from django.db import models


class Entry(models.Model):
    amount = models.BigIntegerField()
    text = models.TextField(default="")

    class Meta:
        indexes = (models.Index(fields=["amount"], name="entry_amount"),)
