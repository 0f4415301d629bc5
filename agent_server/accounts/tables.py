"""The tables of the store, the same in SQLite and PostgreSQL.

They say what the code reads and writes; how a database comes to have them is in `migrations/`. A
test holds the two together.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    text,
)

metadata = MetaData()

# SQLite has whole numbers of 64 bits under one name alone where they are the row's own number.
ROW_NUMBER = BigInteger().with_variant(Integer, "sqlite")

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("name", String(64), nullable=False),
    Column("owner", String(64), nullable=False),
    Column("scopes", String(64), nullable=False),
    # Names or globs with spaces between them; NULL is every model.
    Column("models", String),
    Column("requests_per_minute", BigInteger),
    Column("tokens_per_minute", BigInteger),
    Column("parallel", BigInteger),
    Column("budget_per_day", BigInteger),
    Column("budget_per_month", BigInteger),
    Column("expires_at", Double),
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),
    # A name is free again when its key is revoked.
    Index(
        "ix_api_keys_live_name",
        "name",
        unique=True,
        sqlite_where=text("revoked_at IS NULL"),
        postgresql_where=text("revoked_at IS NULL"),
    ),
    Index("ix_api_keys_revoked_at", "revoked_at"),
)

usage = Table(
    "usage",
    metadata,
    # Nanoseconds since 1970 when the call came, of which the last ten bits are random.
    Column("id", ROW_NUMBER, primary_key=True, autoincrement=False),
    Column("key_id", String(64), nullable=False),
    Column("door", String(16), nullable=False),
    Column("provider", String(32), nullable=False),
    Column("model", String(96), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("cache_creation_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    # NULL: the price was not known.
    Column("cost_nano_usd", BigInteger),
    Column("duration_ms", BigInteger, nullable=False),
    Column("first_token_ms", BigInteger),
    Column("attempts", SmallInteger, nullable=False),
    Column("request_id", String(64), nullable=False),
    Index("ix_usage_key_id_id", "key_id", "id"),
)

spend = Table(
    "spend",
    metadata,
    # A day (2026-11-22) or a month (2026-11) in UTC.
    Column("period", String(10), primary_key=True),
    Column("key_id", String(64), primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("cost_nano_usd", BigInteger, nullable=False),
)

responses = Table(
    "responses",
    metadata,
    Column("owner", String(64), primary_key=True),
    Column("response_id", String(128), primary_key=True),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("status", String(16), nullable=False),
    Column("model", String(200), nullable=False),
    # The provider that keeps the response itself; NULL is this table.
    Column("provider", String(32)),
    Column("previous_id", String(128)),
    Column("is_background", Boolean, nullable=False),
    # JSON and frames, deflated.
    Column("input", LargeBinary, nullable=False),
    Column("response", LargeBinary, nullable=False),
    Column("events", LargeBinary),
    Index("ix_responses_expires_at", "expires_at"),
)
