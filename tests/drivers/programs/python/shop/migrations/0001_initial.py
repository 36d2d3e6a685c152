import uuid

import django.contrib.postgres.fields
import django.contrib.postgres.indexes
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = ()

    operations = (
        migrations.CreateModel(
            name="Category",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=60, unique=True)),
            ],
        ),
        migrations.CreateModel(
            name="Label",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("owner", models.IntegerField()),
                ("word", models.CharField(max_length=30)),
            ],
        ),
        migrations.CreateModel(
            name="Product",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("owner", models.IntegerField(db_index=True)),
                ("name", models.CharField(max_length=80)),
                ("sku", models.UUIDField(default=uuid.uuid4, unique=True)),
                ("price", models.DecimalField(decimal_places=2, default=0, max_digits=10)),
                ("stock", models.IntegerField(default=0)),
                (
                    "tags",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=20), default=list, size=None
                    ),
                ),
                ("details", models.JSONField(default=dict)),
                ("made", models.DateTimeField(auto_now_add=True)),
                ("lasts", models.DurationField(null=True)),
                ("image", models.BinaryField(null=True)),
                (
                    "category",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="products",
                        to="shop.category",
                    ),
                ),
                ("labels", models.ManyToManyField(to="shop.label")),
            ],
            options={
                "indexes": [django.contrib.postgres.indexes.GinIndex(fields=["details"], name="product_details")],
                "constraints": [
                    models.CheckConstraint(condition=models.Q(("stock__gte", 0)), name="stock_not_negative"),
                    models.UniqueConstraint(fields=("owner", "name"), name="product_of_owner"),
                ],
            },
        ),
    )
