"""Responses that are kept."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "responses",
        sa.Column("owner", sa.String(64), primary_key=True),
        sa.Column("response_id", sa.String(128), primary_key=True),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("provider", sa.String(32)),
        sa.Column("previous_id", sa.String(128)),
        sa.Column("is_background", sa.Boolean, nullable=False),
        sa.Column("input", sa.LargeBinary, nullable=False),
        sa.Column("response", sa.LargeBinary, nullable=False),
        sa.Column("events", sa.LargeBinary),
    )
    op.create_index("ix_responses_expires_at", "responses", ["expires_at"])
