"""Training: one loop, budgets, losses, checkpoints, evaluation and the stored teacher."""
