"""Layers: a part of a graph that no step cuts, placed by distance from its source."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from striate.anatomy.draw.pieces import BOX, BRANCH_GAP, BUS, Piece, Run, Spot
from striate.anatomy.draw.shapes import Point
from striate.anatomy.draw.steps import Step

_DUMMY = 5.0  # room for a line between boxes
_LAYER_GAP = 15.0


def in_layers(
    nodes: Sequence[str],
    source: str | None,
    sink: str | None,
    *,
    steps: Mapping[str, Step],
    spots: Mapping[str, Spot],
) -> Piece:
    """Place steps by their distance from the source; lines pass between the boxes.

    Args:
        nodes: names of the steps, in the order of computation.
        source: the step above them, whose lines begin a little above (0, 0); None for none.
        sink: the step below them, whose lines end at (0, height); None for none.
        steps: by name, the sink among them.
        spots: the box of each node.
    """
    inside = set(nodes)
    rank: dict[str, int] = {}
    for name in nodes:
        rank[name] = 1 + max([rank[one] for one in steps[name].inputs if one in inside], default=-1)
    depth = max(rank.values()) + 1
    layers: list[list[str]] = [[] for _ in range(depth)]
    for name in nodes:
        layers[rank[name]].append(name)
    chains: list[tuple[str, str, list[str]]] = []  # edge, and the places that its line passes
    for name in nodes:
        for one in steps[name].inputs:
            start = rank[one] if one in inside else -1
            if one in inside or one == source:
                chains.append((one, name, _passed(layers, one, name, start, rank[name])))
    exits = [name for name in nodes if sink is not None and name in steps[sink].inputs]
    for name in exits:
        assert sink is not None
        chains.append((name, sink, _passed(layers, name, sink, rank[name], depth)))
    links: dict[str, list[str]] = {}
    for one, name, passed in chains:
        way = [one, *passed, name]
        for a, b in pairwise(way):
            links.setdefault(a, []).append(b)
            links.setdefault(b, []).append(a)
    widths = {name: spots[name].width if name in inside else _DUMMY for layer in layers for name in layer}
    middles = _middles(layers, links, widths)
    piece = Piece(height=depth * BOX + (depth - 1) * _LAYER_GAP + (BUS if exits else 0.0))
    tops = {name: i * (BOX + _LAYER_GAP) for i, layer in enumerate(layers) for name in layer}
    for layer in layers:
        for name in layer:
            piece.left = max(piece.left, widths[name] / 2 - middles[name])
            piece.right = max(piece.right, widths[name] / 2 + middles[name])
            if name in inside:
                spot = spots[name]
                offset = (BOX - spot.height) / 2
                piece.spots.append(replace(spot, x=middles[name], y=tops[name] + offset))
    for one, name, passed in chains:
        points: list[Point] = []
        if one in inside:
            points.append((middles[one], tops[one] + BOX / 2 + spots[one].height / 2))
        else:
            points.append((0.0, -BUS))
        for dummy in passed:
            points += [(middles[dummy], tops[dummy]), (middles[dummy], tops[dummy] + BOX)]
        if name in inside:
            points.append((middles[name], tops[name] + BOX / 2 - spots[name].height / 2))
        else:
            points.append((0.0, piece.height))
        piece.runs.append(Run(one, name, tuple(points), arrow=name in inside))
    return piece


def _passed(layers: list[list[str]], one: str, other: str, start: int, end: int) -> list[str]:
    """Keep a place in every layer between two for a line."""
    names = [f"{one} > {other} @ {i}" for i in range(start + 1, end)]
    for name, i in zip(names, range(start + 1, end), strict=True):
        layers[i].append(name)
    return names


def _middles(
    layers: list[list[str]], links: Mapping[str, Sequence[str]], widths: Mapping[str, float]
) -> dict[str, float]:
    """Order each layer by its neighbours and give every place a middle."""
    middles: dict[str, float] = {}

    def pack(layer: list[str], wanted: Callable[[str], float]) -> None:
        layer.sort(key=wanted)
        goals = [wanted(name) for name in layer]
        edge = float("-inf")
        for name, goal in zip(layer, goals, strict=True):
            middles[name] = max(goal, edge + widths[name] / 2 + BRANCH_GAP)
            edge = middles[name] + widths[name] / 2
        shift = sum(goal - middles[name] for name, goal in zip(layer, goals, strict=True)) / len(layer)
        for name in layer:
            middles[name] += shift

    for layer in layers:
        order = {name: float(i) for i, name in enumerate(layer)}
        pack(layer, order.__getitem__)
    for sweep in range(12):
        for layer in layers if sweep % 2 == 0 else layers[::-1]:
            goals = {}
            for name in layer:
                near = [middles.get(other, 0.0) for other in links.get(name, ())]
                goals[name] = sum(near) / len(near) if near else middles[name]
            pack(layer, goals.__getitem__)
    return middles
