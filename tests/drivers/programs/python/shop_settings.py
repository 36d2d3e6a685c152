"""Django's settings; importing this module sets Django up. All its tables live in a schema of the run's own."""

from __future__ import annotations

import os
from typing import Any

import django
from django.conf import settings
from features import CLIENTS, PREFIX
from psycopg import IsolationLevel

SCHEMA = f"{PREFIX}django"


def database(**options: Any) -> dict[str, Any]:
    return {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": os.environ["PGHOST"],
        "PORT": os.environ["PGPORT"],
        "NAME": os.environ["PGDATABASE"],
        "USER": os.environ["PGUSER"],
        "PASSWORD": os.environ["PGPASSWORD"],
        "CONN_MAX_AGE": 0 if "pool" in options else 60,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {"options": f"-c search_path={SCHEMA}", **options},
    }


settings.configure(
    DATABASES={
        "default": database(),
        "bound": database(server_side_binding=True),
        "pooled": database(pool={"min_size": 1, "max_size": CLIENTS // 2, "timeout": 10}),
        "strict": database(isolation_level=IsolationLevel.SERIALIZABLE),
        "elsewhere": {**database(), "TIME_ZONE": "Asia/Tokyo"},
    },
    INSTALLED_APPS=[
        "django.contrib.postgres",
        "django.contrib.contenttypes",
        "django.contrib.auth",
        "django.contrib.sessions",
        "shop",
        "ledger",
    ],
    # Their tables as their models are now, without the history of them.
    MIGRATION_MODULES={"contenttypes": None, "auth": None, "sessions": None},
    CACHES={"default": {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "cached"}},
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    SECRET_KEY="of a test",
    USE_TZ=True,
    TIME_ZONE="UTC",
)
django.setup()
