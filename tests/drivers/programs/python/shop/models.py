"""Rows of these belong to clients by ``owner``."""

from __future__ import annotations

import uuid

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models


class Category(models.Model):
    name = models.CharField(max_length=60, unique=True)


class Label(models.Model):
    owner = models.IntegerField()
    word = models.CharField(max_length=30)


class Product(models.Model):
    owner = models.IntegerField(db_index=True)
    name = models.CharField(max_length=80)
    sku = models.UUIDField(default=uuid.uuid4, unique=True)
    category = models.ForeignKey(Category, models.CASCADE, null=True, related_name="products")
    labels = models.ManyToManyField(Label)
    price = models.DecimalField(max_digits=10, decimal_places=2, default=0)
    stock = models.IntegerField(default=0)
    tags = ArrayField(models.CharField(max_length=20), default=list)
    details = models.JSONField(default=dict)
    made = models.DateTimeField(auto_now_add=True)
    lasts = models.DurationField(null=True)
    image = models.BinaryField(null=True)

    class Meta:
        constraints = (
            models.CheckConstraint(condition=models.Q(stock__gte=0), name="stock_not_negative"),
            models.UniqueConstraint(fields=["owner", "name"], name="product_of_owner"),
        )
        indexes = (GinIndex(fields=["details"], name="product_details"),)
