"""What can go wrong, in the words the user reads."""


class FetchError(Exception):
    """The model can't be had this way; the text says why in one line."""


class SourceUnreachable(FetchError):
    """The source does not answer at all; another one may."""


class ClientMissing(FetchError):
    """A package client is not installed; `group` is what tools/install-packages calls it."""

    def __init__(self, text, group):
        super().__init__(text)
        self.group = group
