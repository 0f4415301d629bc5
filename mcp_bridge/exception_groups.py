"""What is inside the exception groups that the SDK's task groups raise."""


def innermost(exc: BaseException) -> BaseException:
    """The one error at the core of groups of one; a group of several as it is."""
    while isinstance(exc, BaseExceptionGroup) and len(exc.exceptions) == 1:
        exc = exc.exceptions[0]
    return exc
