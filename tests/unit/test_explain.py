"""What is wrong in one line."""

from selector.errors import InvalidInput
from selector.explain import explain
from tests.support import CONFIGS


def test_a_message_of_several_lines_becomes_one() -> None:
    assert explain(InvalidInput("a", "b\nc", "must\n be d"), CONFIGS) == "a=b c: must be d"
