"""Sizes as people read them. `static/wording.js` says the same in the browser."""

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def size_text(size_bytes: float) -> str:
    """A size in binary units.

    >>> [size_text(n) for n in (0, 1023, 1536, 20 * 1024**2)]
    ['0 B', '1,023 B', '1.5 KiB', '20 MiB']
    """
    value, unit = float(size_bytes), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    digits = 1 if unit and value < 10 else 0
    return f"{value:,.{digits}f} {_UNITS[unit]}"
