import datetime
import subprocess
import sys
import warnings
from decimal import Decimal
from pathlib import Path

import orjson
import pytest

from agent_server.accounts import prices as prices_module
from agent_server.accounts.prices import FREE, Price, Prices, Rates, price_from_fields
from streaming.errors import PermissionDeniedError
from streaming.events import Usage

ROOT = Path(__file__).parents[3]
TABLE = Path(prices_module.__file__).with_name("prices.json")


def test_a_call_costs_its_tokens_at_their_rates_to_the_nano_dollar() -> None:
    price = Price(Rates(150_000, 600_000, 37_500, 187_500))
    usage = Usage(1_001, 13, cached_tokens=300, cache_creation_tokens=200)
    dollars = (
        501 * Decimal("0.15")
        + 300 * Decimal("0.0375")
        + 200 * Decimal("0.1875")
        + 13 * Decimal("0.6")
    ) / 1_000_000
    assert abs(price.cost(usage) - dollars * 10**9) <= Decimal("0.5")
    assert price.cost(Usage()) == 0


def test_a_long_prompt_costs_the_dearer_rate_for_the_whole_call() -> None:
    tiers = ((200, Rates(2_000, 2_000, 2_000, 2_000)), (400, Rates(4_000, 4_000, 4_000, 4_000)))
    price = Price(Rates(1_000, 1_000, 1_000, 1_000), call=5_000, tiers=tiers)
    costs = [price.cost(Usage(prompt, 10)) for prompt in (200, 201, 400, 401)]
    assert costs == [215, 427, 825, 1649]


def test_more_cached_tokens_than_prompt_cost_nothing_below_nothing() -> None:
    assert Price(Rates(1_000, 0, 10, 0)).cost(Usage(10, 0, cached_tokens=100)) == 1


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-4o-mini"),
        ("openai", "gpt-4o-mini-2024-07-18"),
        ("anthropic", "claude-sonnet-4-5-20250929"),
        ("together", "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
        ("groq", "llama-3.3-70b-versatile"),
        ("xai", "grok-4.3"),
        ("litellm", "anthropic/claude-sonnet-4-5"),
    ],
)
def test_known_models_have_a_price(provider: str, model: str) -> None:
    price = Prices().price_of(provider, model)
    assert price is not None
    assert price.rates.output >= price.rates.input > 0


def test_the_table_says_what_its_source_says() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import genai_prices  # noqa: PLC0415
        from genai_prices.data import providers  # noqa: PLC0415
    # At noon DeepSeek takes less than at other hours, and the table has the dearest.
    noon = datetime.datetime.fromisoformat(orjson.loads(TABLE.read_bytes())["date"]).replace(
        hour=12, tzinfo=datetime.UTC
    )
    ours = Prices()
    usage = genai_prices.Usage(
        input_tokens=123_457, output_tokens=1_234, cache_read_tokens=1_000, cache_write_tokens=500
    )
    tokens = Usage(123_457, 1_234, cached_tokens=1_000, cache_creation_tokens=500)
    same = 0
    for provider in providers:
        if provider.id not in {"openai", "anthropic", "together", "groq", "google", "mistral"}:
            continue
        for model in provider.models:
            price = ours.price_of(provider.id, model.id)
            if price is None:
                continue
            asked = genai_prices.calc_price(
                usage, model.id, provider_id=provider.id, genai_request_timestamp=noon
            )
            assert abs(price.cost(tokens) - asked.total_price * 10**9) <= 1, model.id
            same += 1
    assert same > 350


def test_the_table_is_what_the_script_makes(tmp_path: Path) -> None:
    content = orjson.loads(TABLE.read_bytes())
    assert "MIT" in content["licence"]
    assert "genai-prices" in content["source"]
    target = tmp_path / "prices.json"
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "make-prices", content["date"], target],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert target.read_bytes() == TABLE.read_bytes()


def test_what_runs_here_is_free_and_what_is_not_known_is_not() -> None:
    prices = Prices()
    assert prices.cost("ollama", "qwen3", Usage(10, 10)) == 0
    assert prices.price_of("offline", "planner") == FREE
    assert prices.cost("openai", "gpt-none", Usage(10, 10)) is None
    with pytest.raises(PermissionDeniedError, match="'openai/gpt-none'") as raised:
        prices.require("openai", "gpt-none")
    assert raised.value.code == "unknown_price"
    assert "AGENT_SERVER_UNKNOWN_PRICE" in raised.value.message
    dear = Prices(unknown="charge").cost("openai", "gpt-none", Usage(10, 10))
    assert dear == 900_000


def test_the_prices_of_the_operator_count_before_the_table() -> None:
    prices = Prices(
        {
            "openai/gpt-4o-mini": price_from_fields({"input": 1, "output": "2.5"}),
            "vllm/*": price_from_fields({"input": 0, "output": 0, "call": 0.001}),
            "*": price_from_fields({"input": 3, "output": 4}),
        }
    )
    million = Usage(1_000_000, 1_000_000)
    assert prices.cost("openai", "gpt-4o-mini", million) == 3_500_000_000
    assert prices.cost("vllm", "any", million) == 1_000_000
    assert prices.cost("openai", "gpt-none", million) == 7_000_000_000
    assert prices.cost("ollama", "qwen3", million) == 0


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"input": 1}, "needs output"),
        ({"input": "x", "output": 1}, "input of a price takes an amount"),
        ({"input": 1, "output": -1}, "output of a price"),
        ({"input": 1, "output": 1, "speed": 1}, "'speed' is no field"),
        ({"input": True, "output": 1}, "input of a price"),
    ],
)
def test_a_wrong_price_is_refused_by_its_field(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        price_from_fields(fields)


def test_names_that_callers_make_up_fill_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prices_module, "MAX_REMEMBERED", 10)
    prices = Prices()
    for number in range(100):
        prices.price_of("openai", f"made-up-{number}")
    assert len(prices._remembered) <= 10
