"""INT8 by torchao's PT2E flow with the quantizer for Inductor on x86, trained for two epochs by the user's own loop."""

import torch
from network import trained
from torch.export import Dim, export
from torchao.quantization.pt2e import move_exported_model_to_eval, move_exported_model_to_train
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_qat_pt2e
from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86
from training import train

example, shape = (torch.zeros(2, 3, 32, 32),), ({0: Dim("batch")},)
quantizer = x86.X86InductorQuantizer()
quantizer.set_global(x86.get_default_x86_inductor_quantization_config(is_qat=True))
prepared = prepare_qat_pt2e(export(trained().train(), example, dynamic_shapes=shape).module(), quantizer)
move_exported_model_to_train(prepared)
train(prepared, epochs=2)
move_exported_model_to_eval(prepared)
torch.export.save(export(convert_pt2e(prepared), (torch.zeros(1, 3, 32, 32),)), "int8.pt2")
