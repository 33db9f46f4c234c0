"""Pictures of maps: scales, tiles, and every kind of panel drawn without a warning."""

import numpy as np
import pytest
from PIL import Image

from striate.core.errors import UsageError
from striate.look.picture import Panel, Picture, limits_of, signed_colours, tiles


def made(rows, **values):
    return Picture(**{"name": "x", "rows": rows, "title": "", "caption": "", "numbers": {}, **values})


def test_limits_by_hand():
    assert limits_of(Panel(pixels=np.array([[1.0, 4.0], [np.nan, 2.0]]))) == (1.0, 4.0)
    assert limits_of(Panel(pixels=np.array([[-1.0, 4.0]]), colours="RdBu_r")) == (-4.0, 4.0)
    assert limits_of(Panel(pixels=np.zeros((2, 2)))) == (-0.5, 0.5)
    assert limits_of(Panel(pixels=np.zeros((2, 2)), limits=(3.0, 3.0))) == (2.5, 3.5)
    assert limits_of(Panel(pixels=np.zeros((2, 2)), limits=(0.0, 9.0))) == (0.0, 9.0)


def test_tiles_by_hand():
    maps = np.arange(3)[:, None, None] * np.ones((3, 1, 2))
    assert tiles(maps, 2, fill=9).tolist() == [[0, 0, 9, 1, 1], [9] * 5, [2, 2, 9, 9, 9]]


def test_signed_colours_are_centred_on_grey():
    shown = signed_colours(np.array([[[-2.0], [0.0], [4.0]]]))
    assert shown.tolist() == [[[0.25] * 3, [0.5] * 3, [1.0] * 3]]
    assert (signed_colours(np.zeros((2, 2, 3))) == 0.5).all()


@pytest.mark.parametrize(
    "panel",
    [
        Panel(pixels=np.zeros((4, 4))),
        Panel(pixels=np.full((4, 4), 7), scale="constant"),
        Panel(pixels=np.full((4, 4), np.nan), scale="nothing"),
        Panel(pixels=np.linspace(0, 1e-9, 12).reshape(3, 4), scale="tiny", title="a title\n" + "long " * 30),
        Panel(pixels=np.linspace(-1e9, 1e9, 12).reshape(3, 4), scale="huge " * 20, colours="RdBu_r"),
        Panel(pixels=np.zeros((1, 40)), scale="flat", boxes=[(0, 0, 0, 3)]),
        Panel(pixels=np.zeros((40, 1, 3)), width=0.2),
        Panel(pixels=np.arange(30).reshape(5, 6) % 12, names={k: "label " * k for k in range(12)}),
        Panel(pixels=np.zeros((2, 2), int), names={0: "one"}),
        Panel(pixels=np.arange(9).reshape(3, 3), names={4: "four"}),
        Panel(
            pixels=np.random.default_rng(0).random((900, 900)), rows_named={0: "#0"}, columns_named={5: "#1"}
        ),
    ],
    ids=range(11),
)
def test_every_panel_is_drawn(panel, tmp_path):
    rows = [[panel, Panel(pixels=np.ones((3, 3, 3)), title="beside")], [Panel(pixels=np.ones((3, 3, 3)))]]
    made(rows, title="A title " * 12, caption="said " * 50).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        drawn = np.asarray(picture.convert("L"))
    border = np.concatenate([drawn[0], drawn[-1], drawn[:, 0], drawn[:, -1]])
    assert (border == 255).all()  # nothing runs off the page


def test_two_runs_give_the_same_file(tmp_path):
    for name in ("a.svg", "a.pdf", "a.png", "b.png"):
        panel = Panel(pixels=np.eye(4), title="x", scale="y")
        made([[panel]], title="t", caption="c").save(tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.svg").stat().st_size > 1000


def test_what_cannot_be_drawn(tmp_path):
    with pytest.raises(UsageError, match=r"\.png, \.svg or \.pdf, got a\.gif"):
        made([[Panel(pixels=np.eye(2))]]).save(tmp_path / "a.gif")
    with pytest.raises(UsageError, match="at least one panel"):
        made([[]]).save(tmp_path / "a.png")


def test_maps_are_whole_files(tmp_path, arrays):
    made([[Panel(pixels=np.eye(2))]], numbers={"one": np.eye(2), "two": np.arange(3)}).save(
        tmp_path / "a.png"
    )
    assert sorted(arrays(tmp_path / "a.npz")) == ["one", "two"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "a.png"]
