"""Two tables and a type."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "first"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "person",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(50), nullable=False),
        sa.Column("mood", sa.Enum("sad", "glad", name="mood")),
    )
    op.create_table(
        "address",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("person_id", sa.Integer, sa.ForeignKey("person.id"), nullable=False),
    )
    op.bulk_insert(sa.table("person", sa.column("name")), [{"name": f"person {i}"} for i in range(5)])


def downgrade() -> None:
    op.drop_table("address")
    op.drop_table("person")
    op.execute("DROP TYPE mood")
