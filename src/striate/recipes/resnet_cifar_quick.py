"""Residual networks on CIFAR-10 in a quarter of an hour on two CPU cores.

Source: the images, padding, crop, flip and momentum of He et al. 2015 (see ``resnet_cifar``); the course of
the rate is one cycle (Smith and Topin 2018), which needs far fewer passes; Nesterov's momentum and a weight
decay of 5e-4, both usual with it.

What striate reaches, with seeds, spread, time and hardware: docs/results.md.

Departures from the paper: epochs, schedule, Nesterov, weight decay.

Command: ``striate train resnet20 --data cifar10 --recipe resnet_cifar_quick``
"""

from dataclasses import replace

from striate.recipes import resnet_cifar

RECIPE = replace(
    resnet_cifar.RECIPE,
    name="resnet_cifar_quick",
    epochs=32,
    optimizer="nesterov",
    lr=0.2,
    weight_decay=5e-4,
    schedule="one_cycle",
    warmup_epochs=8.0,
    step_epochs=(),
)
