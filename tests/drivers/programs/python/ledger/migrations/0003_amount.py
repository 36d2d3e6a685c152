from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = (("ledger", "0002_text"),)
    operations = (
        migrations.AlterField("entry", "amount", models.BigIntegerField()),
        AddIndexConcurrently("entry", models.Index(fields=["amount"], name="entry_amount")),
    )
