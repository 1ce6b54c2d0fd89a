"""A recipe that takes seconds, with every stage."""

RECIPE = """
name = "small"
data = "digits"
[architecture]
kind = "residual"
widths = [4, 8]
branch_width = 2
[[train]]
epochs = 2
lr = 0.01
[[compress]]
epochs = 1
lr = 0.01
pieces = [{kind = "magnitude-pruning", density = 0.5}, {kind = "adversarial", eps = "8/255"}]
[quantize]
epochs = 1
lr = 0.001
"""
