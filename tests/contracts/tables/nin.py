"""Network in network: the author's cuda-convnet file for CIFAR-10, the authors' Caffe file for ImageNet."""

from tables.record import Published, Row

_CIFAR10 = Published(
    (
        Row("conv1", (192, 32, 32), 14_592),
        Row("cccp1", (160, 32, 32), 30_880),
        Row("cccp2", (96, 32, 32), 15_456),
        Row("pool1", (96, 16, 16)),
        Row("conv2", (192, 16, 16), 460_992),
        Row("cccp3", (192, 16, 16), 37_056),
        Row("cccp4", (192, 16, 16), 37_056),
        Row("pool2", (192, 8, 8)),
        Row("conv3", (192, 8, 8), 331_968),
        Row("cccp5", (192, 8, 8), 37_056),
        Row("cccp6", (10, 8, 8), 1_930),
        Row("avgpool", (10, 1, 1)),
    ),
    966_986,
    222.5e6,
    0.05e6,
)

_IMAGENET = Published(
    (
        Row("conv1", (96, 54, 54), 34_944),
        Row("cccp1", (96, 54, 54), 9_312),
        Row("cccp2", (96, 54, 54), 9_312),
        Row("pool1", (96, 27, 27)),
        Row("conv2", (256, 27, 27), 614_656),
        Row("cccp3", (256, 27, 27), 65_792),
        Row("cccp4", (256, 27, 27), 65_792),
        Row("pool2", (256, 13, 13)),
        Row("conv3", (384, 13, 13), 885_120),
        Row("cccp5", (384, 13, 13), 147_840),
        Row("cccp6", (384, 13, 13), 147_840),
        Row("pool3", (384, 6, 6)),
        Row("conv4", (1024, 6, 6), 3_539_968),
        Row("cccp7", (1024, 6, 6), 1_049_600),
        Row("cccp8", (1000, 6, 6), 1_025_000),
        Row("avgpool", (1000, 1, 1)),
    ),
    7_595_176,
    1.100e9,
    0.0005e9,
    small={"input_px": 96},
)

TABLES = {"nin_cifar10": _CIFAR10, "nin_imagenet": _IMAGENET}
