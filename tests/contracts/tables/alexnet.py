"""AlexNet: Krizhevsky, Sutskever, Hinton 2012, and the networks after it."""

from tables.record import Published, Row

# Krizhevsky et al. 2012, sections 3.2 to 3.5 and Fig. 2. Weights by hand, then a bias per map: conv1 96 of
# 11 x 11 x 3; conv2 256 of 5 x 5 x 48; conv3 384 of 3 x 3 x 256; conv4 384 and conv5 256 of 3 x 3 x 192;
# 9,216 -> 4096 -> 4096 -> 1000.
_CONV1 = Row("conv1", (96, 55, 55), 34_848 + 96)
_CONV2 = Row("conv2", (256, 27, 27), 307_200 + 256)
_CONV3_TO_POOL5 = (
    Row("conv3", (384, 13, 13), 884_736 + 384),
    Row("conv4", (384, 13, 13), 663_552 + 384),
    Row("conv5", (256, 13, 13), 442_368 + 256),
    Row("pool5", (256, 6, 6)),
)
_FULLY_CONNECTED = (
    Row("fc6", (4096,), 37_748_736 + 4096),
    Row("fc7", (4096,), 16_777_216 + 4096),
    Row("fc8", (1000,), 4_096_000 + 1000),
)
_NORM_THEN_POOL = (
    _CONV1,
    Row("norm1", (96, 55, 55)),
    Row("pool1", (96, 27, 27)),
    _CONV2,
    Row("norm2", (256, 27, 27)),
    Row("pool2", (256, 13, 13)),
    *_CONV3_TO_POOL5,
    *_FULLY_CONNECTED,
)
_POOL_THEN_NORM = (
    _CONV1,
    Row("pool1", (96, 27, 27)),
    Row("norm1", (96, 27, 27)),
    _CONV2,
    Row("pool2", (256, 13, 13)),
    Row("norm2", (256, 13, 13)),
    *_CONV3_TO_POOL5,
    *_FULLY_CONNECTED,
)
_MACS = (
    105_415_200 + 223_948_800 + 149_520_384 + 112_140_288 + 74_760_192 + 37_748_736 + 16_777_216 + 4_096_000
)

_ALEXNET = Published(
    (Row("pad1", (3, 227, 227)), *_NORM_THEN_POOL), 60_965_224, _MACS, small={"input_px": 64}
)
_ALEXNET_CAFFE = Published(_NORM_THEN_POOL, 60_965_224, 724_406_816, small={"input_px": 67})
_CAFFENET = Published(_POOL_THEN_NORM, 60_965_224, 724_406_816, small={"input_px": 67})

# As lectured, without groups: conv2, conv4 and conv5 read twice as many maps. 1,135.3 MMAC.
_ALEXNET_LECTURE = Published(
    (
        _CONV1,
        Row("pool1", (96, 27, 27)),
        Row("norm1", (96, 27, 27)),
        Row("conv2", (256, 27, 27), 614_400 + 256),
        Row("pool2", (256, 13, 13)),
        Row("norm2", (256, 13, 13)),
        Row("conv3", (384, 13, 13), 884_736 + 384),
        Row("conv4", (384, 13, 13), 1_327_104 + 384),
        Row("conv5", (256, 13, 13), 884_736 + 256),
        Row("pool5", (256, 6, 6)),
        *_FULLY_CONNECTED,
    ),
    62_378_344,
    1_135.3e6,
    0.05e6,
    small={"input_px": 67},
)

# One weird trick, as torchvision: 64, 192, 384, 256 and 256 maps; torchvision prints 61,100,840 parameters.
_ALEXNET_OWT = Published(
    (
        Row("conv1", (64, 55, 55), 23_232 + 64),
        Row("pool1", (64, 27, 27)),
        Row("conv2", (192, 27, 27), 307_200 + 192),
        Row("pool2", (192, 13, 13)),
        Row("conv3", (384, 13, 13), 663_552 + 384),
        Row("conv4", (256, 13, 13), 884_736 + 256),
        Row("conv5", (256, 13, 13), 589_824 + 256),
        Row("pool5", (256, 6, 6)),
        *_FULLY_CONNECTED,
    ),
    61_100_840,
    714_188_480,
    small={"input_px": 63},
)

TABLES = {
    "alexnet": _ALEXNET,
    "alexnet_caffe": _ALEXNET_CAFFE,
    "caffenet": _CAFFENET,
    "alexnet_lecture": _ALEXNET_LECTURE,
    "alexnet_owt": _ALEXNET_OWT,
}
