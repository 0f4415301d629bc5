"""The table of stored responses, the same in SQLite and PostgreSQL."""

from sqlalchemy import Boolean, Column, Double, Index, LargeBinary, MetaData, String, Table

metadata = MetaData()

responses = Table(
    "responses",
    metadata,
    Column("owner", String(64), primary_key=True),
    Column("response_id", String(128), primary_key=True),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("status", String(16), nullable=False),
    Column("model", String(200), nullable=False),
    # Who keeps the response itself; NULL is this table.
    Column("provider", String(32)),
    Column("previous_id", String(128)),
    Column("is_background", Boolean, nullable=False),
    # JSON and frames, deflated.
    Column("input", LargeBinary, nullable=False),
    Column("response", LargeBinary, nullable=False),
    Column("events", LargeBinary),
    Index("ix_responses_expires_at", "expires_at"),
)
