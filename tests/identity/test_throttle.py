"""Guessing gets slower; people who mistype do not notice."""

from hypothesis import given
from hypothesis import strategies as st

from bedside.identity.throttle import FREE_PER_ADDRESS, FREE_PER_USER, LONGEST, REMEMBERED, Throttle


def test_the_first_mistakes_cost_no_time_and_each_further_one_doubles_the_wait() -> None:
    throttle, waits = Throttle(), []
    for _ in range(FREE_PER_USER + 3):
        throttle.failed("lee", "10.0.0.1", 0)
        waits.append(throttle.wait("lee", "10.0.0.1", 0))
    assert waits == [0, 0, 1, 2, 4, 8]


def test_one_address_that_tries_many_names_has_to_wait_for_any_name() -> None:
    throttle = Throttle()
    for n in range(FREE_PER_ADDRESS + 1):
        throttle.failed(f"user{n}", "10.0.0.1", 0)
    assert throttle.wait("lee", "10.0.0.1", 0) > 0
    assert throttle.wait("lee", "10.0.0.2", 0) == 0


def test_a_right_password_forgets_the_users_mistakes_but_not_the_addresses() -> None:
    throttle, now = Throttle(), 1.79e9
    for n in range(FREE_PER_ADDRESS):
        throttle.failed(f"user{n}", "10.0.0.1", now)
    throttle.failed("lee", "10.0.0.1", now)
    throttle.succeeded("lee", "10.0.0.1")
    assert throttle.wait("lee", "10.0.0.2", now) == 0
    throttle.failed("lee", "10.0.0.1", now)
    assert throttle.wait("other", "10.0.0.1", now) > 0


def test_a_flood_of_names_does_not_fill_the_memory() -> None:
    throttle = Throttle()
    for n in range(REMEMBERED + 500):
        throttle.failed(f"user{n}", f"10.{n % 256}.{n // 256}.1", 0)
    assert len(throttle._failures) <= REMEMBERED


def test_mistakes_are_forgotten_after_a_quiet_time() -> None:
    throttle = Throttle()
    for _ in range(FREE_PER_USER):
        throttle.failed("lee", "a", 0)
    throttle.failed("lee", "a", 2 * LONGEST)
    assert throttle.wait("lee", "a", 2 * LONGEST) == 0


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.floats(0, 5000)), max_size=60))
def test_no_wait_is_ever_longer_than_the_longest(attempts: list[tuple[str, float]]) -> None:
    throttle, now = Throttle(), 0.0
    for user, pause in attempts:
        now += pause
        throttle.failed(user, "address", now)
        assert 0 <= throttle.wait(user, "address", now) <= LONGEST
