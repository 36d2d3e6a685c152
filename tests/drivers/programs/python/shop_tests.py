"""What Django's own test runner runs: test cases whose work is rolled back, or flushed away."""

from __future__ import annotations

from django.db import connection, transaction
from django.db.utils import IntegrityError
from django.test import TestCase, TransactionTestCase
from shop.models import Category, Product


class RolledBack(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        cls.category = Category.objects.create(name=f"of tests {connection.settings_dict['NAME']}")

    def test_one(self) -> None:
        Product.objects.create(owner=-1, name="first", category=self.category)
        self.assertEqual(Product.objects.filter(owner=-1).count(), 1)

    def test_two(self) -> None:
        self.assertEqual(Product.objects.filter(owner=-1).count(), 0)
        with self.assertRaises(IntegrityError), transaction.atomic():
            Product.objects.create(owner=-1, name="second", stock=-1)
        Product.objects.create(owner=-1, name="third")
        with self.assertNumQueries(1):
            self.assertEqual(Product.objects.get(owner=-1).name, "third")

    def test_on_commit(self) -> None:
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            transaction.on_commit(lambda: None)
        self.assertEqual(len(callbacks), 1)


class Flushed(TransactionTestCase):
    available_apps = ("shop",)

    def test_commits(self) -> None:
        self.assertFalse(connection.in_atomic_block)
        with transaction.atomic():
            Product.objects.create(owner=-2, name="kept until the flush")
        self.assertEqual(Product.objects.filter(owner=-2).count(), 1)
