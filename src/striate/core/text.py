"""Text that comes from files, made fit for a terminal, a page or a message."""

_LONGEST = 100


def printable(text: str) -> str:
    r"""Write any text, such as a file's name, as one line that can be printed and encoded as UTF-8.

    Bytes that are not UTF-8 become ``\xNN``; line ends, control characters, terminal escapes and characters
    that turn the direction of writing become their escapes.
    """
    if text.isprintable():
        return text
    encodable = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in encodable)


def short(text: str) -> str:
    """Write text from a file as a printable phrase of bounded length, for messages and notes."""
    return printable(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...")
