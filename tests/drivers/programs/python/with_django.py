"""Django's ORM on psycopg, a connection a thread; migrations, its test cases and their runner."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import io
import unittest
import uuid
from typing import Any

import shop_settings  # isort: skip  sets Django up, before its models can be imported
import shop_tests
from asgiref.sync import sync_to_async
from django.contrib.auth import authenticate, get_user_model
from django.contrib.sessions.backends.db import SessionStore
from django.core.cache import cache
from django.core.management import call_command
from django.db import OperationalError, close_old_connections, connection, connections, reset_queries, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Avg, Count, F, OuterRef, Q, Subquery, Sum, Window
from django.db.models.functions import Lower, RowNumber, TruncDay
from django.db.transaction import TransactionManagementError
from django.db.utils import DataError, IntegrityError, ProgrammingError
from django.test import TestCase
from django.test.runner import DiscoverRunner
from django.test.utils import setup_test_environment, teardown_test_environment
from features import CLIENTS, TIDY, ThreadClient, Threads
from ledger.models import Entry
from shop.models import Category, Label, Product


class Session:
    """A client's connections: Django opens them as they are used, and keeps them for the thread."""

    def __init__(self) -> None:
        connection.ensure_connection()

    def close(self) -> None:
        for own in connections.all(initialized_only=True):
            own.close()


def plain(client: ThreadClient, k: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::int + 1, %s::int", (k, client.number))
        return bool(cursor.fetchone() == (k + 1, client.number))


def show(name: str, alias: str = "default") -> Any:
    with connections[alias].cursor() as cursor:
        cursor.execute(f"SHOW {name}")
        return cursor.fetchone()[0]


program = Threads(Session, plain)
feature = program.feature


@feature
def models(client: ThreadClient) -> None:
    owner = client.number
    category, made = Category.objects.get_or_create(name=f"category {owner}")
    client.equal(made, True)
    product = Product.objects.create(owner=owner, name="one", category=category, price=decimal.Decimal("9.99"))
    client.true(product.pk)
    product.name = "renamed"
    product.save(update_fields=["name"])
    product.refresh_from_db()
    client.equal((product.name, product.price), ("renamed", decimal.Decimal("9.99")))
    _, made = Product.objects.update_or_create(owner=owner, name="renamed", defaults={"stock": 5})
    client.equal(made, False)
    client.equal(Product.objects.filter(owner=owner).update(stock=F("stock") + 2), 1)
    client.equal(Product.objects.get(owner=owner).stock, 7)
    labels = Label.objects.bulk_create([Label(owner=owner, word=f"w{i}") for i in range(5)])
    product.labels.set(labels[:3])
    product.labels.remove(labels[0])
    client.equal(sorted(product.labels.values_list("word", flat=True)), ["w1", "w2"])
    with client.refused(Product.DoesNotExist):
        Product.objects.get(owner=owner, name="absent")
    client.equal(category.delete()[1]["shop.Product"], 1)
    client.equal(Label.objects.filter(owner=owner).delete()[0], 5)


@feature
def queries(client: ThreadClient) -> None:
    owner = client.number + 100
    categories = [Category.objects.create(name=f"{owner} {i}") for i in range(3)]
    Product.objects.bulk_create(
        [Product(owner=owner, name=f"p{i:03}", category=categories[i % 3], price=i, stock=i % 7) for i in range(90)],
        batch_size=40,
    )
    mine = Product.objects.filter(owner=owner)
    client.equal(mine.aggregate(Sum("price"), Avg("stock"))["price__sum"], decimal.Decimal(4005))
    client.equal(list(mine.values("category").annotate(n=Count("id")).values_list("n", flat=True)), [30, 30, 30])
    client.equal(mine.filter(Q(name__endswith="5") | ~Q(stock__lt=6)).exclude(price__gt=20).count(), 5)
    client.equal(len({product.category.name for product in mine.select_related("category")}), 3)
    fetched = Category.objects.filter(name__startswith=f"{owner} ").prefetch_related("products")
    client.equal([len(category.products.all()) for category in fetched], [30, 30, 30])
    dearest = Product.objects.filter(category=OuterRef("pk")).order_by("-price").values("name")[:1]
    client.equal(
        list(fetched.annotate(top=Subquery(dearest)).order_by("top").values_list("top", flat=True)),
        ["p087", "p088", "p089"],
    )
    ranked = mine.annotate(row=Window(RowNumber(), order_by=F("price").desc())).order_by("row")
    client.equal(ranked[0].name, "p089")
    client.equal(mine.annotate(day=TruncDay("made")).values("day").distinct().count() in (1, 2), True)
    client.equal(mine.filter(stock=3).order_by(Lower("name")).first().name, "p003")
    client.equal((mine.filter(price=-1).exists(), mine.in_bulk(field_name="sku").__len__()), (False, 90))
    few = list(mine[:5])
    for product in few:
        product.stock = 50
    client.equal(Product.objects.bulk_update(few, ["stock"]), 5)
    client.equal(mine.union(Product.objects.filter(owner=-9)).count(), 90)
    client.equal(len(list(Product.objects.raw("SELECT * FROM shop_product WHERE owner = %s", [owner]))), 90)
    client.true("Aggregate" in mine.values("owner").annotate(n=Count("id")).explain())
    Category.objects.filter(name__startswith=f"{owner} ").delete()
    client.equal(mine.count(), 0)


@feature
def transactions(client: ThreadClient) -> None:
    owner = client.number + 200
    mine, done = Product.objects.filter(owner=owner).order_by("name"), []
    with transaction.atomic():
        Product.objects.create(owner=owner, name="a")
        with client.refused(IntegrityError), transaction.atomic():
            Product.objects.create(owner=owner, name="a")
        with client.refused(KeyError), transaction.atomic():
            Product.objects.create(owner=owner, name="undone")
            raise KeyError
        with transaction.atomic():
            Product.objects.create(owner=owner, name="b")
        transaction.on_commit(lambda: done.append("committed"))
        savepoint = connection.savepoint()  # Django 6.1 deprecates the function of that name
        Product.objects.create(owner=owner, name="c")
        connection.savepoint_rollback(savepoint)
        client.equal(done, [])
    client.equal((done, [product.name for product in mine]), (["committed"], ["a", "b"]))
    with client.refused(KeyError), transaction.atomic(durable=True):
        mine.delete()
        raise KeyError
    client.equal(mine.count(), 2)
    with transaction.atomic():
        with client.refused(IntegrityError):
            Product.objects.create(owner=owner, name="a")
        with client.refused(TransactionManagementError):
            mine.count()
        transaction.set_rollback(True)
    transaction.set_autocommit(False)
    mine.update(stock=3)
    transaction.rollback()
    mine.filter(name="b").update(stock=4)
    transaction.commit()
    transaction.set_autocommit(True)
    client.equal([product.stock for product in mine], [0, 4])
    mine.delete()


@feature
def row_locks(client: ThreadClient) -> None:
    shared = Product.objects.filter(owner=-5)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [client.key(7) - client.number])
        Product.objects.get_or_create(owner=-5, name="shared")
    for _ in range(4):
        with transaction.atomic():
            product = shared.select_for_update().get()
            before = product.stock
            product.stock += 1
            product.save()
        client.true(shared.get().stock > before)

    own = Product.objects.filter(pk=Product.objects.create(owner=-6, name=f"own {client.number}").pk)

    def part() -> None:
        with transaction.atomic():
            own.select_for_update().get()
            others = own.using("bound")
            with client.refused(OperationalError), transaction.atomic("bound"):
                others.select_for_update(nowait=True).get()
            with transaction.atomic("bound"):
                client.equal(list(others.select_for_update(skip_locked=True)), [])
        connections["bound"].close()

    client.in_turn(part)
    client.equal(own.delete()[0], 1)


@feature
def iterators(client: ThreadClient) -> None:
    """Rows come through a cursor on the server: in a transaction, or WITH HOLD outside of one."""
    owner = client.number + 300
    Product.objects.bulk_create(Product(owner=owner, name=f"{i:03}") for i in range(250))
    mine = Product.objects.filter(owner=owner).order_by("name")
    with transaction.atomic():
        client.equal(sum(1 for _ in mine.iterator(chunk_size=60)), 250)
        first = next(mine.values_list("name", flat=True).iterator(chunk_size=10))
        client.equal(first, "000")

    def part() -> None:
        names = []
        for product in mine.iterator(chunk_size=50):
            names.append(product.name)
            if len(names) % 50 == 0:
                client.equal(mine.filter(name=product.name).count(), 1)
        client.equal((len(names), names[-1]), (250, "249"))

    client.in_turn(part)
    client.equal(mine.delete()[0], 250)


@feature
def fields(client: ThreadClient) -> None:
    owner = client.number + 400
    values: dict[str, Any] = {
        "sku": uuid.uuid4(),
        "price": decimal.Decimal("12345678.90"),
        "tags": ["a", 'b "c"', "ü"],
        "details": {"a": [1, 2.5, None], "b": {"c": "ü%s"}},
        "lasts": datetime.timedelta(days=3, seconds=4, microseconds=5),
        "image": bytes(range(256)) * 2000,
    }
    for alias in ("default", "bound"):
        product = Product.objects.using(alias).create(owner=owner, name=alias, **values)
        got = Product.objects.using(alias).get(pk=product.pk)
        client.equal(
            {name: bytes(getattr(got, name)) if name == "image" else getattr(got, name) for name in values}, values
        )
        mine = Product.objects.using(alias).filter(owner=owner, name=alias)
        client.equal(mine.filter(details__b__c="ü%s", tags__contains=["ü"], tags__len=3).count(), 1)
        client.equal(
            mine.filter(details__a__0=1, details__has_key="b").values_list("details__b__c", flat=True)[0], "ü%s"
        )
        client.true(abs((got.made - datetime.datetime.now(datetime.timezone.utc)).total_seconds()) < 60)
        client.equal(got.made.utcoffset(), datetime.timedelta(0))
        with client.refused(DataError):
            mine.update(name="x" * 100)
        values["sku"] = uuid.uuid4()
    Product.objects.filter(owner=owner).delete()


@feature
def bound_on_the_server(client: ThreadClient) -> None:
    """With server_side_binding, parameters travel apart from the statement's text."""
    owner = client.number + 500
    with transaction.atomic("bound"):
        for i in range(12):
            Product.objects.using("bound").create(owner=owner, name=str(i), stock=i)
    mine = Product.objects.using("bound").filter(owner=owner)
    for i in range(8):
        client.equal(mine.get(stock=i).name, str(i))
    client.equal(mine.filter(stock__in=[1, 2, 30]).count(), 2)
    with transaction.atomic("bound"):
        client.equal(sum(1 for _ in mine.iterator(chunk_size=5)), 12)
    mine.delete()


@feature
def pooled_connections(client: ThreadClient) -> None:
    """Half as many connections as threads, from psycopg_pool by way of Django's option."""
    owner = client.number + 600
    for i in range(6):
        with transaction.atomic("pooled"):
            Product.objects.using("pooled").create(owner=owner, name=str(i))
        connections["pooled"].close()
        client.equal(Product.objects.using("pooled").filter(owner=owner).count(), i + 1)
        connections["pooled"].close()
    client.equal(Product.objects.using("pooled").filter(owner=owner).delete()[0], 6)


@feature
def isolation_and_time_zones(client: ThreadClient) -> None:
    for _ in range(3):
        with transaction.atomic("strict"):
            client.equal(show("transaction_isolation", "strict"), "serializable")
        client.equal(show("TimeZone", "elsewhere"), "Asia/Tokyo")
        client.equal((show("transaction_isolation"), show("TimeZone")), ("read committed", "UTC"))
        client.equal(show("search_path"), shop_settings.SCHEMA)
    owner = client.number + 700
    made = Product.objects.using("elsewhere").create(owner=owner, name="there").made
    client.equal(Product.objects.get(owner=owner).made, made)
    Product.objects.filter(owner=owner).delete()


@feature
def settings(client: ThreadClient) -> None:
    """What a middleware of a shop with tenants does: settings for as long as the connection is kept."""
    tenant = f"tenant {client.number}"
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('myapp.tenant', %s, false)", [tenant])
        cursor.execute(f"SET statement_timeout = {20001 + client.number}")
    for _ in range(4):
        close_old_connections()
        client.equal((show("myapp.tenant"), show("statement_timeout")), (tenant, f"{20001 + client.number}ms"))
        with transaction.atomic():
            Product.objects.filter(owner=-1).exists()
            client.equal(show("myapp.tenant"), tenant)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL myapp.tenant = 'of this transaction'")
        client.equal(show("myapp.tenant"), "of this transaction")
    client.equal(show("myapp.tenant"), tenant)


@feature
def raw_cursors(client: ThreadClient) -> None:
    table = client.name("raw")
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {table} (id int, word text)")
        cursor.executemany(f"INSERT INTO {table} VALUES (%s, %s)", [(i, f"it's {i}%") for i in range(20)])
        with cursor.copy(f"COPY {table} FROM STDIN") as copy:
            for i in range(20, 200):
                copy.write_row((i, "copied"))
        cursor.execute(f"SELECT count(*), min(word) FROM {table}")
        client.equal(cursor.fetchall(), [(200, "copied")])
        cursor.execute(f"SELECT word FROM {table} WHERE id = %(id)s", {"id": 7})
        client.equal(cursor.fetchone(), ("it's 7%",))
        with client.refused(ProgrammingError):
            cursor.execute("SELECT nothing")
        cursor.callproc("lower", ["ABC"])
        client.equal(cursor.fetchone(), ("abc",))
        cursor.execute(f"DROP TABLE {table}")


@feature
def introspection(client: ThreadClient) -> None:
    with connection.cursor() as cursor:
        reader = connection.introspection
        client.true({"shop_product", "shop_category", "auth_user"} <= {t.name for t in reader.get_table_list(cursor)})
        client.equal([c.name for c in reader.get_table_description(cursor, "shop_category")], ["id", "name"])
        relations = reader.get_relations(cursor, "shop_product")  # Django 6.1 tells what a deletion does, too
        client.equal(
            {name: tuple(told[:2]) for name, told in relations.items()}, {"category_id": ("id", "shop_category")}
        )
        constraints = reader.get_constraints(cursor, "shop_product")
        client.equal(constraints["product_of_owner"]["columns"], ["owner", "name"])
        client.equal([s["column"] for s in reader.get_sequences(cursor, "shop_label")], ["id"])
    out = io.StringIO()
    call_command("inspectdb", "shop_product", "shop_category", stdout=out)
    client.true("class ShopProduct(models.Model)" in out.getvalue())
    client.true("category = models.ForeignKey('ShopCategory'" in out.getvalue())


@feature
def migrations(client: ThreadClient) -> None:
    def part() -> None:
        MigrationExecutor(connection).migrate([("ledger", None)])
        client.equal("ledger_entry" in connection.introspection.table_names(), False)
        executor = MigrationExecutor(connection)
        executor.migrate(executor.loader.graph.leaf_nodes("ledger"))
        client.equal(Entry.objects.aggregate(Sum("amount"))["amount__sum"], 45)
        client.equal(Entry.objects.get(amount=7).text, "7")
        out = io.StringIO()
        call_command("showmigrations", "ledger", stdout=out)
        client.equal(out.getvalue().count("[X]"), 3)

    client.in_turn(part)


@feature
def schema_editor(client: ThreadClient) -> None:
    name = client.name("edited")
    with connection.schema_editor() as editor:
        editor.execute(f"CREATE TABLE {name} (id int PRIMARY KEY)")
        editor.execute(f"ALTER TABLE {name} ADD COLUMN word text")
    client.equal(connection.introspection.table_names().count(name), 1)
    with client.refused(ProgrammingError), connection.schema_editor() as editor:
        editor.execute(f"DROP TABLE {name}")
        editor.execute("DROP TABLE absent_from_here")
    client.equal(connection.introspection.table_names().count(name), 1)
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE {name}")


@feature
def test_cases(client: ThreadClient) -> None:
    """A class of tests for each client: what they do in the database is rolled back."""

    class Tests(TestCase):
        @classmethod
        def setUpTestData(cls) -> None:
            cls.product = Product.objects.create(owner=client.number + 800, name="of the class")

        def test_change(self) -> None:
            self.product.name = "changed"
            self.product.save()
            self.assertEqual(Product.objects.get(owner=client.number + 800).name, "changed")

        def test_is_unchanged(self) -> None:
            self.assertEqual(Product.objects.get(owner=client.number + 800).name, "of the class")
            with self.assertRaises(IntegrityError), transaction.atomic():
                Product.objects.create(owner=client.number + 800, name="of the class")

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Tests).run(result)
    client.equal([text for _, text in result.failures + result.errors], [])
    client.equal(result.testsRun, 2)
    client.equal(Product.objects.filter(owner=client.number + 800).exists(), False)


class Runner(DiscoverRunner):
    """Django's runner on the database at hand: our role may not create one."""

    def setup_test_environment(self, **options: Any) -> None:
        setup_test_environment()  # and no handler of signals, which only the main thread may have

    def run_checks(self, databases: Any) -> None:
        call_command("check", databases=databases, stdout=io.StringIO())

    def teardown_test_environment(self, **options: Any) -> None:
        teardown_test_environment()

    def setup_databases(self, **options: Any) -> list[Any]:
        return []

    def teardown_databases(self, old: list[Any], **options: Any) -> None:
        client = Product.objects.filter(owner__in=(-1, -2))
        assert not client.exists()


@feature
def test_runner(client: ThreadClient) -> None:
    def part() -> None:
        runner = Runner(verbosity=0, logger=None)
        runner.test_runner = Silent
        client.equal(runner.run_tests([shop_tests.__name__]), 0)

    client.in_turn(part)


class Silent(unittest.TextTestRunner):
    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "stream": io.StringIO()})


@feature
def contributed(client: ThreadClient) -> None:
    """Users, sessions and a cache, all kept in the database."""
    user = get_user_model().objects.create_user(f"user{client.number}", password="secret")
    client.equal(authenticate(username=user.username, password="secret"), user)
    client.equal(authenticate(username=user.username, password="wrong"), None)
    client.equal(user.has_perm("shop.add_product"), False)
    session = SessionStore()
    session["number"] = client.number
    session.save()
    client.equal(SessionStore(session.session_key)["number"], client.number)
    session.delete()
    for i in range(5):
        cache.set(f"{client.number}", {"i": i}, 60)
        client.equal(cache.get(f"{client.number}"), {"i": i})
    client.equal((cache.add(f"{client.number}", 1), cache.delete(f"{client.number}")), (False, True))
    user.delete()


@feature
def asynchronous(client: ThreadClient) -> None:
    owner = client.number + 900

    async def work() -> list[str]:
        try:
            for i in range(4):
                await Product.objects.acreate(owner=owner, name=str(i))
            product = await Product.objects.aget(owner=owner, name="2")
            await product.adelete()
            return [product.name async for product in Product.objects.filter(owner=owner).order_by("name")]
        finally:
            await sync_to_async(client.connection.close)()

    def part() -> None:
        client.equal(asyncio.run(work()), ["0", "1", "3"])

    client.in_turn(part)
    client.equal(Product.objects.filter(owner=owner).delete()[0], 3)


@feature
def kept_connections(client: ThreadClient) -> None:
    """A connection that broke is found by its health check at the next request."""

    def part() -> None:
        with client.refused(OperationalError), connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        close_old_connections()
        client.equal(plain(client, 1), True)
        for _ in range(3):
            close_old_connections()
            client.equal(plain(client, 2), True)
        reset_queries()

    client.in_turn(part)


if __name__ == "__main__":
    with connection.cursor() as cursor:
        cursor.execute(TIDY)
        cursor.execute(f"CREATE SCHEMA {shop_settings.SCHEMA}")
        call_command("migrate", run_syncdb=True, verbosity=0)
        call_command("createcachetable", verbosity=0)
        assert CLIENTS > 1
        program.run()
        cursor.execute(TIDY)
    connections["pooled"].close_pool()
    connections.close_all()
