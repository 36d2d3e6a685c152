from django.db import migrations, models


def fill(apps, schema_editor):
    Entry = apps.get_model("ledger", "Entry")
    Entry.objects.bulk_create(Entry(amount=i, text=str(i)) for i in range(10))


def empty(apps, schema_editor):
    apps.get_model("ledger", "Entry").objects.all().delete()


class Migration(migrations.Migration):
    dependencies = (("ledger", "0001_initial"),)
    operations = (
        migrations.AddField("entry", "text", models.TextField(default="")),
        migrations.RunPython(fill, empty),
    )
