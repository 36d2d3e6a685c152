"""Changes of columns, data moved, an index made without blocking, outside of a transaction."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "second"
down_revision = "first"


def upgrade() -> None:
    op.add_column("person", sa.Column("email", sa.Text))
    op.execute("UPDATE person SET email = replace(name, ' ', '.') || '@example.org'")
    op.alter_column("person", "email", nullable=False)
    op.alter_column("person", "name", new_column_name="full_name", type_=sa.Text)
    op.create_unique_constraint("person_email", "person", ["email"])
    with op.get_context().autocommit_block():
        op.create_index("person_name", "person", ["full_name"], postgresql_concurrently=True)


def downgrade() -> None:
    op.drop_index("person_name", "person")
    op.drop_constraint("person_email", "person")
    op.alter_column("person", "full_name", new_column_name="name", type_=sa.String(50))
    op.drop_column("person", "email")
