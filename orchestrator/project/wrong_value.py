"""What is wrong with a value, and what to do, as two things from where it is found to where it is said."""

from __future__ import annotations


class WrongValueError(ValueError):
    """A value that a key can't have. A ValueError, so that pydantic collects it."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(f"{message}; {remedy}" if remedy else message)
        self.message = message
        self.remedy = remedy


class MissingChoiceError(ValueError):
    """None of the keys `choices` is given, and one has to be. A ValueError, so that pydantic collects it."""

    def __init__(self, message: str, choices: tuple[str, ...]) -> None:
        super().__init__(message)
        self.choices = choices
