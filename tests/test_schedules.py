from __future__ import annotations

import pytest

from humannorm.checks import InputError
from humannorm.schedules import Schedule, constant, ramp, step


def test_constant_step_and_ramp():
    assert constant(3.0)(-5) == constant(3.0)(10**9) == 3.0
    hard = step(10000, 0.7, 0.1)
    assert (hard(9999), hard(10000), hard(10001)) == (0.7, 0.1, 0.1)
    line = ramp(5000, 0.8, 8000, 0.2)
    assert (line(0), line(5000), line(8000), line(20000)) == (0.8, 0.8, 0.2, 0.2)
    assert line(6500) == pytest.approx(0.5)


def test_published_switch_over_one_iteration():
    smoothness = ramp(5000, 0.0, 5001, 1000.0)
    assert (smoothness(5000), smoothness(5001)) == (0.0, 1000.0)


def test_piecewise_course_and_its_plain_form():
    schedule = Schedule(((0, 0.0), (10, 1.0), (10, 5.0), (20, 5.0), (30, 0.0)))
    assert [schedule(i) for i in (0, 5, 10, 15, 25, 30)] == [0.0, 0.5, 5.0, 5.0, 2.5, 0.0]
    assert Schedule.from_list(schedule.to_list()) == schedule
    assert schedule.scaled_time(0.5)(12.5) == schedule(25)


@pytest.mark.parametrize(("points", "message"), [((), "at least one"), (((5, 1.0), (4, 1.0)), "never fall")])
def test_a_course_that_runs_back_is_refused(points, message):
    with pytest.raises(InputError, match=message):
        Schedule(points)
