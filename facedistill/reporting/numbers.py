"""Numbers as people read them. Fractions become percentages here and nowhere else in the package.

A value that a file does not hold, or holds as null or NaN, reads "not measured"; nothing is invented.
"""

from __future__ import annotations

import math
from typing import Any

NOT_MEASURED = "not measured"
_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400


def is_number(value: Any) -> bool:
    """Whether `value` is a finite number (a bool is not one)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def percent(fraction: Any) -> str:
    """0.9143 as "91.43 %"; never rounds up to 100 % or down to 0 % what is neither."""
    if not is_number(fraction):
        return NOT_MEASURED
    text = f"{fraction * 100:.2f}"
    if text == "100.00" and fraction < 1:
        return "> 99.99 %"
    if text == "0.00" and fraction > 0:
        return "< 0.01 %"
    return f"{text} %"


def percent_interval(interval: Any) -> str:
    """[0.9, 0.93] as "[90.00, 93.00]", in percent like the value before it; empty where there is none.

    A lower end below 1 is never shown as 100.00, an upper end above 0 never as 0.00.
    """
    if not isinstance(interval, list | tuple) or len(interval) != 2 or not all(map(is_number, interval)):
        return ""
    low, high = interval
    low = min(low, 0.9999) if low < 1 else low
    high = max(high, 0.0001) if high > 0 else high
    return f"[{low * 100:.2f}, {high * 100:.2f}]"


def cosine(value: Any) -> str:
    """A cosine or a coefficient with two decimals."""
    return f"{value:.2f}" if is_number(value) else NOT_MEASURED


def whole(value: Any) -> str:
    """1234567 as "1,234,567"."""
    return f"{round(value):,}" if is_number(value) else NOT_MEASURED


def short(value: Any) -> str:
    """1832000 as "1.83 M": three significant digits and a metric prefix."""
    if not is_number(value):
        return NOT_MEASURED
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 0.9995:
            return f"{_three_digits(value / size)} {prefix}"
    return _three_digits(value)


def rate(value: Any) -> str:
    """Images per second: 1,234, 37.4, or two significant digits of what is below 1, never "0.0" of what is more.

    >>> rate(1234.5), rate(37.42), rate(0.1234)
    ('1,234', '37.4', '0.12')
    """
    if not is_number(value):
        return NOT_MEASURED
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def duration(seconds: Any) -> str:
    """Two units of time: "12 s", "3 min 20 s", "2 h 5 min", "4 d 3 h"."""
    if not is_number(seconds):
        return NOT_MEASURED
    left = round(seconds)
    if left < _MINUTE:
        return f"{left} s"
    if left < _HOUR:
        return f"{left // _MINUTE} min {left % _MINUTE} s"
    if left < _DAY:
        return f"{left // _HOUR} h {left % _HOUR // _MINUTE} min"
    return f"{left // _DAY} d {left % _DAY // _HOUR} h"


def times_fewer(student: Any, teacher: Any) -> str:
    """How many times fewer the student has, "11.6 times fewer than the teacher"; empty where unknown."""
    if not (is_number(student) and is_number(teacher) and student > 0 and teacher > 0):
        return ""
    if student == teacher:
        return "as many as the teacher"
    more = student > teacher
    ratio = student / teacher if more else teacher / student
    return f"{_three_digits(ratio)} times {'more' if more else 'fewer'} than the teacher"


def _three_digits(value: float) -> str:
    magnitude = abs(value)
    decimals = 2 if magnitude < 9.995 else 1 if magnitude < 99.95 else 0
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
