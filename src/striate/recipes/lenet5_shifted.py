"""LeNet-5 on handwritten digits that are shifted at random by up to two pixels.

Source: the 1998 paper (sec. III.B) adds 540,000 distorted copies (shifts, scale, squeeze, shear) to its
60,000 images and reports 0.8 % test error. This recipe keeps only the shifts, drawn anew for each pass:
crops of 32 x 32 out of a canvas whose edge pixels are repeated two pixels outwards.

What striate reaches, with seeds, spread, time and hardware: docs/results.md.

Departures: those of the recipe ``lenet5``; shifts only.

Command: ``striate train lenet5 --data mnist --recipe lenet5_shifted``
"""

from dataclasses import replace

from striate.recipes import lenet5

RECIPE = replace(lenet5.RECIPE, name="lenet5_shifted", crop_pad_px=2, crop_fill="edge")
