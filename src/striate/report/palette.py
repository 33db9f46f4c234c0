"""The colours of every page, by name: CSS variables with a value for light and one for dark screens."""

LIGHT = {
    "paper": "#fdfcf9",
    "card": "#f6f3ec",
    "ink": "#1c2126",
    "soft": "#626a73",
    "rule": "#ddd8cd",
    "good": "#1668a8",
    "bad": "#c64a14",
    "run1": "#1668a8",
    "run2": "#c64a14",
    "run3": "#2c7a4b",
    "run4": "#8447ad",
    "run5": "#8f6400",
    "run6": "#0c7f89",
    "run7": "#b02f69",
    "run8": "#5b6470",
}
DARK = {
    "paper": "#14171b",
    "card": "#1c2026",
    "ink": "#e9e6e0",
    "soft": "#a3abb4",
    "rule": "#343a42",
    "good": "#74b6f2",
    "bad": "#f58b4e",
    "run1": "#74b6f2",
    "run2": "#f58b4e",
    "run3": "#6fcf97",
    "run4": "#c9a0f2",
    "run5": "#e0b44a",
    "run6": "#57c9d4",
    "run7": "#f08cb8",
    "run8": "#aab3bd",
}
PAPER, INK, SOFT, RULE = "var(--paper)", "var(--ink)", "var(--soft)", "var(--rule)"
GOOD, BAD = "var(--good)", "var(--bad)"
GOOD_PIXEL, BAD_PIXEL = (42, 120, 190), (214, 84, 26)  # of images, which are the same on light and dark

_NUM_RUNS = 8


def run_colour(index: int) -> str:
    """Return the colour of a run by its index on the page; after 8 they repeat."""
    return f"var(--run{index % _NUM_RUNS + 1})"
