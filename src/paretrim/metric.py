"""A metric: its name, how its values are written, and which of two is better."""

from __future__ import annotations

from paretrim.plain_settings import FilledText, plain_settings

_MINUS = "\N{MINUS SIGN}"


@plain_settings()
class Metric:
    """A number over a set of images. ``count`` is what one image is called.

    With the unit "%" values are fractions in [0, 1], written as percent, and their differences as points. Any other unit is
    written after the number as it is; "" if there is none.

    Raises:
        InvalidSettings: a value is of another type, or the name is empty.
    """

    name: FilledText
    unit: str = ""
    higher_is_better: bool = True
    count: str = "image"

    @property
    def is_share(self) -> bool:
        """Whether values are fractions, written as percent."""
        return self.unit == "%"

    @property
    def heading(self) -> str:
        """Name and unit, over a column: accuracy, %."""
        return f"{self.name}, {self.unit}" if self.unit else self.name

    @property
    def of_change(self) -> str:
        """The unit of a difference of two values."""
        return "points" if self.is_share else self.unit

    def number(self, value: float) -> str:
        """A value without its unit: two decimals of a percentage, four significant digits of anything else."""
        return (f"{100 * value:.2f}" if self.is_share else f"{value:.4g}").replace("-", _MINUS)

    def text(self, value: float) -> str:
        """A value with its unit."""
        return f"{self.number(value)} {self.unit}".rstrip()

    def change(self, difference: float, digits: int = 2) -> str:
        """A signed difference without its unit; ``digits`` are the decimals of points."""
        text = f"{100 * difference:+.{digits}f}" if self.is_share else f"{difference:+.3g}"
        return text.lstrip("+-") if float(text) == 0 else text.replace("-", _MINUS)

    def change_text(self, difference: float, digits: int = 2) -> str:
        """A signed difference with its unit."""
        return f"{self.change(difference, digits)} {self.of_change}".rstrip()

    def limit(self, difference: float) -> str:
        """An allowed difference as it is given on the command line: for shares, in points."""
        return f"{100 * difference if self.is_share else difference:g}"

    def gain(self, better: float, worse: float) -> float:
        """How much better the first value is than the second; negative where it is worse."""
        return better - worse if self.higher_is_better else worse - better

    def merit(self, value: float) -> float:
        """The value as a number of which more is better."""
        return value if self.higher_is_better else -value


SQUARED_ERROR = Metric("mean squared error", higher_is_better=False)

ACCURACY = Metric("accuracy", "%")
"""The share of images whose top-1 class is right: the metric of every result that does not name another."""


def accuracy_of(value: float, metric: Metric) -> float:
    """A value of the metric accuracy, as a fraction.

    Raises:
        AttributeError: the metric is another.
    """
    if metric != ACCURACY:
        raise AttributeError(f"there is no accuracy, since the task is judged by {metric.name}; read the value itself")
    return value
