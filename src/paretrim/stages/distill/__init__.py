"""Distillation: learning from the logits of a teacher."""
