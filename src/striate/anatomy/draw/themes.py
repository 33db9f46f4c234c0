"""Colours of a figure by theme: ``light`` and ``dark`` for screens, ``print`` in grey for paper."""

from collections.abc import Mapping

from striate.core.errors import UsageError

THEMES = ("light", "dark", "print")

# role: front, top, side, edge, text
_LIGHT = {
    "input": ("#e9e6df", "#f5f3ee", "#d8d4ca", "#6f6a5f", "#222831"),
    "conv": ("#bcd6ee", "#d9e8f6", "#9dc0e0", "#2f5d8a", "#14304d"),
    "pool": ("#f3bfa5", "#f9dccd", "#e3a384", "#9c4a24", "#55230d"),
    "fc": ("#bfe0c0", "#dcefdc", "#a0cda2", "#357a3a", "#153f18"),
    "norm": ("#dccbea", "#ece2f4", "#c7b0db", "#6b4590", "#3a1f55"),
    "activation": ("#f2e2ab", "#f9f0d2", "#e2cd86", "#8a7220", "#4a3c0b"),
    "join": ("#e3e6ea", "#f0f2f4", "#ccd1d7", "#5b6570", "#222831"),
    "block": ("#c6dedd", "#e0eeed", "#a9cccb", "#2e6b69", "#123b3a"),
    "view": ("#efefef", "#f7f7f7", "#dddddd", "#777777", "#222831"),
    "other": ("#efe0ea", "#f7eef4", "#dcc4d3", "#845270", "#4a2239"),
}
_DARK = {
    "input": ("#4a4b4d", "#5d5e60", "#3a3b3d", "#b9b7b1", "#f2f2f2"),
    "conv": ("#2d5684", "#3d6ba0", "#224468", "#9cc6f0", "#eef6ff"),
    "pool": ("#8a4526", "#a65a37", "#6b341b", "#f5b294", "#fff1ea"),
    "fc": ("#2c6a35", "#3b8246", "#205028", "#98dba0", "#effff0"),
    "norm": ("#5b3d7c", "#714e97", "#46305f", "#cfb0ec", "#f8f0ff"),
    "activation": ("#75621d", "#8f792a", "#594a14", "#eed677", "#fffbe8"),
    "join": ("#454d57", "#596370", "#353c44", "#c3ccd6", "#f4f7fa"),
    "block": ("#235f5d", "#317775", "#194846", "#8bd6d2", "#ecfffe"),
    "view": ("#3c3c3c", "#4d4d4d", "#2d2d2d", "#aaaaaa", "#f2f2f2"),
    "other": ("#6b3f58", "#83506d", "#523043", "#e5b0cd", "#fff0f8"),
}
_PRINT = {
    "input": ("#ffffff", "#ffffff", "#f2f2f2", "#000000", "#000000"),
    "conv": ("#e4e4e4", "#f4f4f4", "#cfcfcf", "#000000", "#000000"),
    "pool": ("#adadad", "#c6c6c6", "#939393", "#000000", "#000000"),
    "fc": ("#6a6a6a", "#8a8a8a", "#505050", "#000000", "#ffffff"),
    "norm": ("#f6f6f6", "#ffffff", "#e2e2e2", "#000000", "#000000"),
    "activation": ("#f6f6f6", "#ffffff", "#e2e2e2", "#000000", "#000000"),
    "join": ("#ffffff", "#ffffff", "#eeeeee", "#000000", "#000000"),
    "block": ("#d4d4d4", "#e6e6e6", "#bdbdbd", "#000000", "#000000"),
    "view": ("#ffffff", "#ffffff", "#eeeeee", "#777777", "#000000"),
    "other": ("#c8c8c8", "#dddddd", "#b0b0b0", "#000000", "#000000"),
}
_LINES = {
    "light": {
        "paper": "#ffffff",
        "ink": "#1c2430",
        "soft": "#5d6673",
        "wire": "#4a5563",
        "fan": "#9aa3ae",
        "mark": "#b3261e",
        "window": "#f2a9a1",
        "frame": "#c3c9d1",
        "frame.fill": "#f7f8fa",
    },
    "dark": {
        "paper": "#12161c",
        "ink": "#eef1f5",
        "soft": "#a7b0bc",
        "wire": "#b3bcc8",
        "fan": "#6b7480",
        "mark": "#ff8a7d",
        "window": "#a3443b",
        "frame": "#3c4551",
        "frame.fill": "#191f27",
    },
    "print": {
        "paper": "#ffffff",
        "ink": "#000000",
        "soft": "#3c3c3c",
        "wire": "#000000",
        "fan": "#808080",
        "mark": "#000000",
        "window": "#ffffff",
        "frame": "#8c8c8c",
        "frame.fill": "#ffffff",
    },
}
_ROLES = {"light": _LIGHT, "dark": _DARK, "print": _PRINT}


def colours(theme: str) -> Mapping[str, str]:
    """Return the colours of a theme by the names that layouts use: ``conv.front``, ``ink``, ``wire``.

    Raises:
        UsageError: no such theme.
    """
    if theme not in THEMES:
        raise UsageError(f"expected a theme of {', '.join(THEMES)}, got {theme!r}")
    found = dict(_LINES[theme])
    for role, tones in _ROLES[theme].items():
        for part, tone in zip(("front", "top", "side", "edge", "text"), tones, strict=True):
            found[f"{role}.{part}"] = tone
    return found
