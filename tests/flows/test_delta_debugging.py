"""Delta debugging: what it leaves fails, and no element of it can go."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gapshift.flows.delta_debugging import ddmin


def fails_with(*culprits):
    """A test that fails where any of the culprit sets is there as a whole; it counts what it is asked."""
    asked = []

    def test(parts):
        asked.extend(parts)
        return [any(culprit <= set(part) for culprit in culprits) for part in parts]

    return test, asked


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 14).flatmap(
        lambda n: st.tuples(st.just(n), st.lists(st.sets(st.integers(0, n - 1), min_size=1), min_size=1, max_size=3))
    )
)
def test_it_fails_and_no_element_can_go(case):
    count, culprits = case
    test, _ = fails_with(*culprits)
    left = ddmin(range(count), test)
    assert test([left]) == [True]
    assert not any(test([tuple(e for e in left if e != gone) for gone in left if len(left) > 1]))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_cannot_be_told_does_not_mislead_it(data):
    """Parts without a verdict count as not failing: what is left still fails."""
    unknown = data.draw(st.sets(st.frozensets(st.integers(0, 7), max_size=5), max_size=40))
    culprit = data.draw(st.frozensets(st.integers(0, 7), min_size=1))

    def test(parts):
        return [culprit <= set(part) and (len(part) == 8 or frozenset(part) not in unknown) for part in parts]

    left = ddmin(range(8), test)
    assert culprit <= set(left)
    assert test([left]) == [True]


def test_one_culprit_of_many_takes_few_tests():
    test, asked = fails_with({37})
    assert ddmin(range(64), test) == (37,)
    assert len(asked) <= 12


def test_order_is_kept_and_one_element_is_not_tested():
    test, asked = fails_with({"c", "a"})
    assert ddmin("abc", test) == ("a", "c")
    test, asked = fails_with({"a"})
    assert ddmin("a", test) == ("a",)
    assert asked == []
