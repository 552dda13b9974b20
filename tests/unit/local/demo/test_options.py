"""The demo's options: what is nonsense is refused by name, before anything is started."""

import pytest

from local.demo.options import ANY, parse_options


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--latency", "-5", "'-5' is not a number of milliseconds from 0 to 60,000"),
        ("--latency", "nan", "'nan' is not a number of milliseconds from 0 to 60,000"),
        ("--latency", "inf", "'inf' is not a number of milliseconds from 0 to 60,000"),
        ("--latency", "60001", "'60001' is not a number of milliseconds from 0 to 60,000"),
        ("--latency", "soon", "'soon' is not a number of milliseconds from 0 to 60,000"),
        ("--indicators", "none", "'none' is not a whole number above 0"),
        ("--hosts", "0", "'0' is not a whole number above 0"),
        ("--limit", "-1", "'-1' is not a whole number above 0"),
        ("--fault", "flood", "invalid choice: 'flood'"),
        ("--repair", "it", "'it' is not a whole number above 0"),
    ],
)
def test_a_wrong_value_is_explained(
    option: str, value: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message names the option, the value and what would be right; the status is 2."""
    with pytest.raises(SystemExit) as ended:
        parse_options([option, value])
    assert ended.value.code == 2
    assert f"argument {option}: {told}" in capsys.readouterr().err


def test_numbers_are_taken() -> None:
    """The ends of the range and fractions of a millisecond are right."""
    assert [parse_options(["--latency", t]).latency for t in ("0", "0.5", "60000")] == [0, 0.5, 6e4]


def test_a_demo_to_repair_need_not_be_named() -> None:
    """Without a process it is the only one there is."""
    found = [parse_options(given).repair for given in ([], ["--repair"], ["--repair", "12"])]
    assert found == [None, ANY, 12]
