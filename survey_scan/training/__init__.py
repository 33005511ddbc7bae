"""Training: labelled rows of stores → batches → a network whose logits tell lenses from others.

Nothing here imports TensorFlow before a network is made.
"""
