"""INT8 without training by torchao's PT2E flow with the quantizer for Inductor on x86, with its defaults."""

import numpy as np
import torch
from network import trained
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

images = torch.from_numpy(np.load("calibration.npz")["images"])
example = (images[:1].clone(),)  # a view would take all images into the file
quantizer = x86.X86InductorQuantizer()
quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
with torch.no_grad():
    prepared = prepare_pt2e(torch.export.export(trained(), example).module(), quantizer)
    for image in images:
        prepared(image[None])
    int8 = convert_pt2e(prepared)
    torch.export.save(torch.export.export(int8, example), "int8.pt2")
