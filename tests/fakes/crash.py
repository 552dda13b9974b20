"""A process that dies: nothing catches it, so nothing is put in order either."""


class Crash(BaseException):
    """The process ends here."""
