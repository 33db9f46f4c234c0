"""Looking inside trained networks: one function a method, ``(net, images, target, *, ...) -> maps``.

Every function takes *normed* images, ``N x C x H x W``, as the network takes them, leaves the network as it
was (mode, hooks, gradients), and gives tensors. ``picture.py`` draws them; ``striate look`` does both.
"""
